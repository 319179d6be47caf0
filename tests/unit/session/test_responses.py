"""Responses of a session: asked for, beside each other, stopped, failed."""

from __future__ import annotations

from agent.session.commands import (
    DropBranch,
    Hear,
    InsertItem,
)
from tests.helpers.session import SessionDriver, message, of_kind, only, types

MANUAL = {"audio": {"input": {"turn_detection": None}}}
TRANSCRIBED = {"audio": {"input": {"transcription": {"model": "any"}}}}


def test_a_response_with_its_own_input_and_instructions_out_of_band():
    driver = SessionDriver()
    driver.say(message("first", id="a"))
    sent = driver.say(
        {
            "type": "response.create",
            "response": {
                "conversation": "none",
                "instructions": "Be brief.",
                "metadata": {"client_event_id": "x1"},
                "max_output_tokens": 9,
                "input": [
                    {"type": "item_reference", "id": "a"},
                    message("second")["item"],
                ],
            },
        }
    )
    created = only(sent, "response.created")["response"]
    assert created["metadata"] == {"client_event_id": "x1"}
    assert created["conversation_id"] is None
    (branch,) = driver.branches()
    assert branch.instructions == "Be brief."
    assert branch.max_output_tokens == 9
    assert branch.context is not None
    assert branch.context[0] == "a"
    assert branch.context[1].text == "second"
    sent = driver.text("Fine.") + driver.end()
    assert "conversation.item.added" not in types(sent)
    assert only(sent, "response.done")["response"]["metadata"] == {"client_event_id": "x1"}
    assert of_kind(driver, DropBranch)


def test_out_of_band_responses_run_beside_the_conversations_own():
    driver = SessionDriver()
    driver.turn()
    sent = driver.say({"type": "response.create", "response": {"conversation": "none"}})
    assert only(sent, "response.created")
    own, aside = driver.branches()
    driver.text("aside", aside)
    driver.text("own", own)
    assert only(driver.end(aside), "response.done")["response"]["conversation_id"] is None
    assert only(driver.end(own), "response.done")["response"]["conversation_id"]


def test_a_second_response_of_the_conversation_is_refused():
    driver = SessionDriver()
    driver.say({"type": "response.create"})
    error = only(driver.say({"type": "response.create"}), "error")["error"]
    assert error["code"] == "conversation_already_has_active_response"


def test_cancel_by_the_client():
    driver = SessionDriver()
    driver.say({"type": "response.create"})
    driver.text("Half an ans")
    sent = driver.say({"type": "response.cancel"})
    done = only(sent, "response.done")["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    error = only(driver.say({"type": "response.cancel"}), "error")["error"]
    assert error["code"] == "response_cancel_not_active"


def test_an_answer_at_its_token_limit_is_incomplete():
    driver = SessionDriver(max_output_tokens=2)
    driver.say({"type": "response.create"})
    assert driver.branches()[0].max_output_tokens == 2
    driver.text("A B")
    done = only(driver.end(complete=False), "response.done")["response"]
    assert done["status"] == "incomplete"
    assert done["status_details"]["reason"] == "max_output_tokens"
    assert done["max_output_tokens"] == 2


def test_a_failed_answer_keeps_what_was_sent_and_the_next_works():
    driver = SessionDriver()
    driver.turn()
    driver.text("I was about to")
    done = only(driver.fail(), "response.done")["response"]
    assert done["status"] == "failed"
    assert done["status_details"]["error"]["code"] == "engine_unavailable"
    kept = of_kind(driver, InsertItem)[-1].item
    assert kept.text == "I was about to"
    assert only(driver.turn(), "response.created")


def test_a_typed_question_is_answered_beside_speech():
    driver = SessionDriver()
    driver.speech(600)
    driver.say(message("and this?"))
    assert only(driver.say({"type": "response.create"}), "response.created")
    sent = driver.speech(600)
    # The user goes on speaking: the answer stops, nothing of the speech is lost.
    assert only(sent, "response.done")["response"]["status"] == "cancelled"
    driver.silence(700)
    heard = sum(len(command.samples) for command in of_kind(driver, Hear))
    assert heard == (19 + 19 + 16) * 512
