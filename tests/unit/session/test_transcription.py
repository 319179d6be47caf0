"""Sessions of type `transcription`."""

from __future__ import annotations

import pytest
from openai.types.realtime.realtime_transcription_session_create_response import (
    RealtimeTranscriptionSessionCreateResponse,
)

from agent.config import Limits
from agent.session.commands import BranchPurpose, Commit, Configure, DeleteItem, StartBranch
from agent.session.settings import TRANSCRIBED_ITEMS_KEPT
from tests.helpers.session import SessionDriver, only, types

COMPLETED = "conversation.item.input_audio_transcription.completed"


def transcription(**config):
    return SessionDriver(type="transcription", **config)


def update(**session):
    return {"type": "session.update", "session": session}


def transcribed_turn(driver, text="so it is"):
    """One whole turn and its transcript."""
    sent = driver.turn()
    branch = driver.branches(BranchPurpose.TRANSCRIPT)[-1]
    return sent + driver.text(text, branch) + driver.end(branch)


def test_the_session_shows_itself_as_the_official_server_does():
    driver = transcription()
    shown = only(driver.events, "session.created")["session"]
    RealtimeTranscriptionSessionCreateResponse.model_validate(shown)
    assert shown["object"] == "realtime.transcription_session"
    assert set(shown) == {"object", "id", "type", "audio", "include", "expires_at"}
    assert shown["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
    }
    assert shown["audio"]["input"]["transcription"]["language"] is None


def test_a_turn_becomes_an_item_with_a_transcript_and_no_response():
    driver = transcription()
    assert types(transcribed_turn(driver)) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.delta",
        COMPLETED,
    ]
    assert not driver.branches(BranchPurpose.ANSWER)
    assert len(driver.reports) == 1


def test_settings_are_changed_as_in_a_conversation():
    driver = transcription()
    sent = driver.say(
        update(
            type="transcription",
            audio={
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "noise_reduction": {"type": "near_field"},
                    "transcription": {"model": "whisper-1", "language": "German", "prompt": "x"},
                    "turn_detection": None,
                }
            },
            include=["item.input_audio_transcription.logprobs"],
        )
    )
    shown = only(sent, "session.updated")["session"]
    assert shown["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert shown["audio"]["input"]["transcription"]["language"] == "de"
    assert shown["audio"]["input"]["turn_detection"] is None
    configured = [command for command in driver.commands if isinstance(command, Configure)][-1]
    assert (configured.language, configured.instructions) == ("de", "")


def test_it_transcribes_whatever_it_is_told():
    driver = transcription()
    driver.say(update(audio={"input": {"transcription": None}}))
    assert only(transcribed_turn(driver), COMPLETED)["transcript"] == "so it is"


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"instructions": "Be brief."}, "session.instructions"),
        ({"audio": {"output": {"voice": "alloy"}}}, "session.audio.output"),
        ({"type": "realtime"}, "session.type"),
        ({"audio": {"input": {"transcription": {"language": "Germn"}}}}, None),
    ],
)
def test_what_it_does_not_have_is_refused_by_name(session, param):
    driver = transcription()
    error = only(driver.say(update(**session)), "error")["error"]
    assert error["param"] == (param or "session.audio.input.transcription.language")
    assert only(transcribed_turn(driver), COMPLETED)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.create"},
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user"}},
        {"type": "conversation.item.truncate", "item_id": "a", "text_end": 1},
    ],
)
def test_there_are_no_responses_and_no_items_but_spoken_ones(event):
    driver = transcription()
    error = only(driver.say({**event, "event_id": "e1"}), "error")["error"]
    assert (error["code"], error["event_id"]) == ("not_in_transcription_sessions", "e1")
    assert event["type"] in error["message"]
    assert not driver.branches(BranchPurpose.ANSWER)
    assert only(transcribed_turn(driver), COMPLETED)


def test_the_first_update_may_make_a_session_one_of_transcription():
    driver = SessionDriver(audio={"input": {"format": {"type": "audio/pcma"}}})
    sent = driver.say(update(type="transcription"))
    shown = only(sent, "session.updated")["session"]
    assert shown["object"] == "realtime.transcription_session"
    assert shown["audio"]["input"]["format"] == {"type": "audio/pcma"}
    assert types(transcribed_turn(driver))[-1] == COMPLETED
    assert not driver.branches(BranchPurpose.ANSWER)


def test_later_updates_may_not():
    driver = SessionDriver()
    driver.turn()
    error = only(driver.say(update(type="transcription")), "error")["error"]
    assert (error["param"], "connect again" in error["message"]) == ("session.type", True)


def test_hours_of_turns_leave_a_few_items_here_and_none_in_the_engine():
    driver = SessionDriver(type="transcription", limits=Limits(max_items=4))
    for number in range(60):
        sent = transcribed_turn(driver, f"turn {number}")
        assert only(sent, COMPLETED)["transcript"] == f"turn {number}"
        assert "conversation.item.deleted" not in types(sent)
    committed = [command.item_id for command in driver.commands if isinstance(command, Commit)]
    deleted = [command.item_id for command in driver.commands if isinstance(command, DeleteItem)]
    assert committed == deleted
    kept = [
        item_id
        for item_id in committed
        if driver.say({"type": "conversation.item.retrieve", "item_id": item_id})[0]["type"]
        == "conversation.item.retrieved"
    ]
    assert kept == committed[-min(4, TRANSCRIBED_ITEMS_KEPT) :]


def test_a_transcript_that_failed_frees_its_item_too():
    driver = transcription()
    driver.turn()
    sent = driver.fail(driver.branches(BranchPurpose.TRANSCRIPT)[-1])
    assert types(sent) == ["conversation.item.input_audio_transcription.failed"]
    assert isinstance(driver.commands[-1], DeleteItem)
    assert isinstance(driver.commands[-2], StartBranch)


def test_a_language_that_the_model_does_not_understand_is_refused():
    driver = SessionDriver(type="transcription", languages=("en", "pt"))

    def ask(language):
        return driver.say(update(audio={"input": {"transcription": {"language": language}}}))

    assert only(ask("pt-BR"), "session.updated")
    error = only(ask("German"), "error")["error"]
    assert error["param"] == "session.audio.input.transcription.language"
    assert "German (de)" in error["message"]
    assert only(ask(None), "session.updated")
