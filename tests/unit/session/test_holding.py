"""Text that is held back while sound is not heard yet that may be speech over an answer."""

from __future__ import annotations

import pytest

from agent.session.commands import AdoptBranch
from tests.helpers.by_hand import FRAME_MS
from tests.helpers.session import (
    NO_INTERRUPTION,
    SessionDriver,
    answer,
    answering,
    cancelled,
    of_kind,
    only,
    types,
)


def test_what_is_held_back_is_sent_when_all_is_heard_and_nobody_spoke():
    driver = answering()
    assert driver.hold() == []
    assert driver.text(" there") == driver.text(" was") == driver.end() == []
    driver.silence(32)
    sent = driver.hold(held=False)
    assert [event["delta"] for event in sent if "delta" in event] == [" there", " was"]
    assert only(sent, "response.output_text.done")["text"] == "Once upon a time there was"
    assert types(sent)[-1] == "response.done"
    assert of_kind(driver, AdoptBranch)[-1].upto == len("Once upon a time there was")


def test_what_is_held_back_stays_so_where_somebody_spoke():
    driver = answering()
    driver.hold()
    driver.text(" there")
    driver.speech(224)
    assert driver.hold(held=False) == []
    assert driver.text(" was") == []
    driver.speech(128)
    driver.words(None)
    sent = driver.speech(192)
    assert cancelled(sent)
    assert only(sent, "response.output_text.done")["text"] == "Once upon a time"
    assert of_kind(driver, AdoptBranch)[-1].upto == len("Once upon a time")


@pytest.mark.parametrize("ends", [False, True])
def test_a_client_that_cancels_what_is_held_back_keeps_what_it_got(ends):
    driver = answering()
    driver.hold()
    driver.text(" there")
    if ends:
        driver.end()
    sent = driver.say({"type": "response.cancel"})
    assert only(sent, "response.output_text.done")["text"] == "Once upon a time"
    assert only(sent, "response.done")["response"]["status"] == "cancelled"
    assert driver.hold(held=False) == []


def test_an_answer_that_begins_while_text_is_held_back_waits_from_its_first_word():
    driver = SessionDriver()
    driver.speech(500)
    driver.silence(224)
    driver.text("Once")  # begun early
    driver.hold()
    assert types(driver.silence(320))[-1] == "response.created"
    assert driver.text(" upon") == []
    deltas = [event["delta"] for event in driver.hold(held=False) if "delta" in event]
    assert deltas == ["Once", " upon"]
    driver.end()
    driver.hold()
    driver.say({"type": "response.create"})
    assert driver.text("And") == []


@pytest.mark.parametrize("detection", [None, {"type": "server_vad", "interrupt_response": False}])
def test_nothing_is_held_back_where_nothing_interrupts(detection):
    driver = SessionDriver(audio={"input": {"turn_detection": detection}})
    driver.hold()
    driver.say({"type": "response.create"})
    assert "response.output_text.delta" in types(driver.text("Once"))


def test_switching_interruption_off_sends_what_is_held_back():
    driver = answering()
    driver.hold()
    driver.text(" there")
    sent = driver.say({"type": "session.update", "session": NO_INTERRUPTION})
    assert types(sent) == ["response.output_text.delta", "session.updated"]


def test_out_of_band_answers_are_not_held_back():
    driver = answering()
    driver.hold()
    driver.say({"type": "response.create", "response": {"conversation": "none"}})
    assert "response.output_text.delta" in types(driver.text("Beside"))


def test_holding_back_does_not_make_words_that_are_late_any_later():
    driver = answering()
    driver.speech(352)
    driver.silence(512)
    driver.now += 1.6
    driver.hold()
    driver.text(" there", answer(driver))
    assert types(driver.hold(held=False)) == ["response.output_text.delta"]


def test_an_interruption_says_when_the_speech_came_and_the_text_went():
    driver = answering()
    began, last_text_at = driver.now, driver.now
    driver.speech(320)
    driver.words(None)
    driver.speech(224)
    (report,) = driver.interruptions
    assert report.last_text_at == last_text_at
    assert report.withheld_at == pytest.approx(began + 0.096)
    assert report.arrived_at == report.heard_at == pytest.approx(began + 0.224)
    # The turn that asked was heard before.
    assert report.position_ms == pytest.approx(224 + 1000 + 700, abs=FRAME_MS)
