"""Whole conversations replayed against the sans-I/O session."""

from __future__ import annotations

import base64
from dataclasses import asdict, replace

import numpy as np
import pytest
from openai.types.realtime import RealtimeResponseUsage

from agent.audio.pcm import encode_pcm16
from agent.config import Limits, VadSettings
from agent.engine.branches import Usage
from agent.engine.contract import Truncation
from agent.gateway.translate import engine_settings, session_usage
from agent.session.commands import (
    AdoptBranch,
    BranchPurpose,
    Commit,
    Configure,
    Cut,
    DeleteItem,
    DropBranch,
    Forget,
    Hear,
    InsertItem,
    Pause,
    Resume,
    TruncateItem,
)
from agent.session.items import AudioPart
from tests.helpers.session import USAGE, SessionDriver, only, types

MANUAL = {"audio": {"input": {"turn_detection": None}}}
TRANSCRIBED = {"audio": {"input": {"transcription": {"model": "any"}}}}


def update(**session):
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def message(text, role="user", **extra):
    kind = "output_text" if role == "assistant" else "input_text"
    item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}], **extra}
    return {"type": "conversation.item.create", "item": item}


def of_kind(driver, kind):
    return [command for command in driver.commands if isinstance(command, kind)]


def test_one_spoken_turn_sends_the_protocols_events_in_order():
    driver = SessionDriver(**TRANSCRIBED)
    assert types(driver.events) == ["session.created"]

    sent = driver.turn()
    assert types(sent) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    started, stopped = sent[0], sent[1]
    assert started["item_id"] == stopped["item_id"] == sent[2]["item_id"] == sent[3]["item"]["id"]
    assert started["audio_start_ms"] == 0  # back-dated to the pre-roll, which is all there was
    # Speech of 1000 ms (31 frames), ended by 500 ms of silence, in whole frames.
    assert stopped["audio_end_ms"] == 31 * 32 + 16 * 32

    sent = driver.text("Hel") + driver.text("lo.") + driver.end()
    assert types(sent) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    assert only(sent, "response.content_part.added")["part"]["type"] == "text"
    assert only(sent, "response.output_text.done")["text"] == "Hello."
    response = only(sent, "response.done")["response"]
    assert response["status"] == "completed"
    assert response["output"][0]["content"] == [{"type": "output_text", "text": "Hello."}]
    assert response["usage"]["total_tokens"] == 34
    assert response["usage"]["input_token_details"]["cached_tokens"] == 3
    adopted = of_kind(driver, AdoptBranch)[-1]
    assert (adopted.upto, adopted.after) == (6, started["item_id"])


def test_usage_says_what_the_prompt_left_out_and_nothing_when_that_is_nothing():
    driver = SessionDriver()
    driver.turn()
    driver.text("Hello.")
    details = only(driver.end(), "response.done")["response"]["usage"]["input_token_details"]
    assert set(details) == {"text_tokens", "audio_tokens", "image_tokens", "cached_tokens"}
    driver.turn()
    driver.text("Hello again.")
    sent = driver.end(usage=replace(USAGE, dropped_items=4, summarised_items=6))
    usage = only(sent, "response.done")["response"]["usage"]
    assert usage["input_tokens"] == 32
    assert usage["input_token_details"] == details | {"dropped_items": 4, "summarised_items": 6}
    # What a client with the openai types sees of it.
    parsed = RealtimeResponseUsage.model_validate(usage)
    assert parsed.input_token_details is not None
    assert parsed.input_token_details.model_extra == {"dropped_items": 4, "summarised_items": 6}


def test_usage_of_an_answer_that_is_stopped_counts_as_far_as_it_got():
    driver = SessionDriver()
    driver.turn()
    driver.text("One", usage=replace(USAGE, output_tokens=1))
    driver.text(" two", usage=replace(USAGE, output_tokens=2))
    done = only(driver.say({"type": "response.cancel"}), "response.done")["response"]
    assert done["status"] == "cancelled"
    assert done["usage"]["input_tokens"] == 32
    assert done["usage"]["input_token_details"]["cached_tokens"] == 3
    assert done["usage"]["output_tokens"] == 2
    driver.turn()
    driver.text("Three", usage=replace(USAGE, output_tokens=1))
    done = only(driver.fail(), "response.done")["response"]
    assert (done["status"], done["usage"]["total_tokens"]) == ("failed", 33)
    driver.turn()
    done = only(driver.say({"type": "response.cancel"}), "response.done")["response"]
    assert done["usage"]["total_tokens"] == 0


def test_a_session_counts_what_the_engine_counts():
    usage = Usage(1, 2, 3, 4, 5, 6)
    assert asdict(session_usage(usage)) == asdict(usage)


def test_engine_hears_every_sample_of_the_turn_and_the_early_pause():
    driver = SessionDriver()
    driver.silence(500)
    driver.turn(1000)
    kinds = [type(command) for command in driver.commands]
    assert kinds.index(Hear) < kinds.index(Pause) < kinds.index(Commit)
    heard = sum(len(command.samples) for command in of_kind(driver, Hear))
    # 300 ms of pre-roll (10 frames), 31 frames of speech, 16 of silence.
    assert heard == (10 + 31 + 16) * 512


def test_a_click_is_forgotten_and_never_announced():
    driver = SessionDriver()
    sent = driver.speech(96) + driver.silence(600)
    assert sent == []
    assert of_kind(driver, Forget)
    assert not of_kind(driver, Commit)


def test_speech_that_goes_on_after_a_pause_drops_the_early_work():
    driver = SessionDriver()
    driver.speech(500)
    driver.silence(250)
    driver.speech(200)
    kinds = [type(command) for command in driver.commands]
    assert kinds.index(Pause) < kinds.index(Resume)
    assert not of_kind(driver, Commit)


def test_frames_that_stop_coming_end_the_turn_by_the_clock():
    driver = SessionDriver()
    driver.speech(1000)
    assert driver.wait(0.4) == []
    sent = driver.wait(0.2)
    assert types(sent)[:3] == [
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
    ]


def test_a_long_turn_is_cut_into_clips_and_stays_one_item():
    driver = SessionDriver()
    driver.turn(70_000)
    cuts = of_kind(driver, Cut)
    assert len(cuts) == 2
    assert len(of_kind(driver, Commit)) == 1
    assert all(cut.keep_samples < 30 * 16_000 for cut in cuts)


def test_a_turn_is_ended_at_its_longest_and_the_next_goes_on():
    driver = SessionDriver(vad=VadSettings(max_turn_s=31))
    driver.speech(40_000)
    driver.silence(700)
    commits = of_kind(driver, Commit)
    assert len(commits) == 2
    heard = sum(len(command.samples) for command in of_kind(driver, Hear))
    assert heard == (1250 + 16) * 512


def test_no_answer_is_made_when_the_client_says_so():
    driver = SessionDriver(
        audio={"input": {"turn_detection": {"type": "server_vad", "create_response": False}}}
    )
    assert "response.created" not in types(driver.turn())
    assert driver.reports[-1].response_id is None


# ---------------------------------------------------------------- manual turns


def test_manual_turns_hear_everything_and_need_a_commit():
    driver = SessionDriver(**MANUAL)
    assert driver.silence(300) + driver.speech(500) == []
    sent = driver.say({"type": "input_audio_buffer.commit"})
    assert types(sent) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    heard = sum(len(command.samples) for command in of_kind(driver, Hear))
    assert heard == (9 + 16) * 512
    sent = driver.say({"type": "response.create"})
    assert types(sent) == ["response.created"]


def test_commit_of_an_empty_buffer_is_an_error_and_loses_nothing():
    driver = SessionDriver(**MANUAL)
    sent = driver.say({"type": "input_audio_buffer.commit", "event_id": "mine"})
    error = only(sent, "error")["error"]
    assert error["code"] == "input_audio_buffer_commit_empty"
    assert error["event_id"] == "mine"
    driver.speech(64)
    assert only(driver.say({"type": "input_audio_buffer.commit"}), "error")
    driver.speech(64)
    assert only(driver.say({"type": "input_audio_buffer.commit"}), "input_audio_buffer.committed")
    assert sum(len(command.samples) for command in of_kind(driver, Hear)) == 4 * 512


def test_clear_forgets_what_was_not_committed():
    driver = SessionDriver(**MANUAL)
    driver.speech(500)
    assert types(driver.say({"type": "input_audio_buffer.clear"})) == ["input_audio_buffer.cleared"]
    assert of_kind(driver, Forget)
    assert only(driver.say({"type": "input_audio_buffer.commit"}), "error")


def test_the_manual_buffer_has_a_limit_that_names_itself():
    driver = SessionDriver(vad=VadSettings(max_manual_turn_s=1.0), **MANUAL)
    sent = driver.speech(1200)
    assert {event["error"]["code"] for event in sent} == {"input_audio_buffer_full"}
    driver.say({"type": "input_audio_buffer.commit"})
    assert driver.speech(500) == []


def test_commit_during_detected_speech_ends_the_turn_at_once():
    driver = SessionDriver()
    driver.speech(1000)
    sent = driver.say({"type": "input_audio_buffer.commit"})
    assert types(sent)[:2] == ["input_audio_buffer.speech_stopped", "input_audio_buffer.committed"]


def test_switching_to_manual_turns_keeps_what_is_being_said():
    driver = SessionDriver()
    driver.speech(1000)
    sent = driver.say(update(**MANUAL))
    assert types(sent) == ["session.updated"]
    assert sent[0]["session"]["audio"]["input"]["turn_detection"] is None
    driver.silence(2000)
    driver.say({"type": "input_audio_buffer.commit"})
    heard = sum(len(command.samples) for command in of_kind(driver, Hear))
    assert heard == (31 + 62) * 512


# ---------------------------------------------------------------- transcripts


def test_a_transcript_is_made_beside_the_answer_and_completes_once():
    driver = SessionDriver(**TRANSCRIBED)
    driver.turn()
    (branch,) = driver.branches(BranchPurpose.TRANSCRIPT)
    commit = of_kind(driver, Commit)[-1]
    assert branch.item_id == commit.item_id
    delta = "conversation.item.input_audio_transcription.delta"
    assert only(driver.text(" What time ", branch), delta)["delta"] == "What time"
    assert only(driver.text("is it? ", branch), delta)["delta"] == " is it?"
    (completed,) = driver.end(branch)
    assert completed["type"] == "conversation.item.input_audio_transcription.completed"
    assert completed["transcript"] == "What time is it?"
    assert completed["usage"]["type"] == "duration"
    assert completed["usage"]["seconds"] == pytest.approx((31 + 16) * 0.032, abs=0.001)
    got = driver.say({"type": "conversation.item.retrieve", "item_id": commit.item_id})
    assert got[0]["item"]["content"][0]["transcript"] == "What time is it?"


def test_a_failed_transcript_says_so_and_the_session_goes_on():
    driver = SessionDriver(**TRANSCRIBED)
    driver.turn()
    (branch,) = driver.branches(BranchPurpose.TRANSCRIPT)
    failed = only(driver.fail(branch), "conversation.item.input_audio_transcription.failed")
    assert failed["error"]["code"] == "engine_unavailable"
    assert only(driver.text("Yes") + driver.end(), "response.done")


# ---------------------------------------------------------------- responses


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


# ---------------------------------------------------------------- items


def test_items_are_placed_retrieved_truncated_and_deleted():
    driver = SessionDriver()
    driver.say(message("two", id="b"))
    sent = driver.say(message("one", id="a") | {"previous_item_id": "root"})
    assert only(sent, "conversation.item.added")["previous_item_id"] is None
    sent = driver.say(message("an answer", "assistant", id="c") | {"previous_item_id": "a"})
    assert only(sent, "conversation.item.done")["previous_item_id"] == "a"
    inserted = [(command.item.id, command.after) for command in of_kind(driver, InsertItem)]
    assert inserted == [("b", None), ("a", None), ("c", "a")]

    sent = driver.say({"type": "conversation.item.truncate", "item_id": "c", "text_end": 2})
    assert only(sent, "conversation.item.truncated")["item_id"] == "c"
    assert of_kind(driver, TruncateItem) == [TruncateItem("c", 2)]
    got = driver.say({"type": "conversation.item.retrieve", "item_id": "c"})
    assert only(got, "conversation.item.retrieved")["item"]["content"][0]["text"] == "an"

    assert only(
        driver.say({"type": "conversation.item.delete", "item_id": "c"}),
        "conversation.item.deleted",
    )
    assert of_kind(driver, DeleteItem) == [DeleteItem("c")]
    # Delete and create with the same id is how some clients truncate.
    assert only(driver.say(message("an", "assistant", id="c")), "conversation.item.added")


def test_deleting_the_item_being_written_lets_the_answer_end_without_it():
    driver = SessionDriver()
    driver.say(message("hello", id="a"))
    driver.say({"type": "response.create"})
    sent = driver.text("Hi")
    item_id = only(sent, "conversation.item.added")["item"]["id"]
    driver.say({"type": "conversation.item.delete", "item_id": item_id})
    driver.say({"type": "conversation.item.delete", "item_id": "a"})
    sent = driver.text(" there") + driver.end()
    assert only(sent, "response.done")["response"]["status"] == "completed"
    assert "conversation.item.done" not in types(sent)
    assert not of_kind(driver, AdoptBranch)


def test_an_item_with_audio_is_cut_into_clips_for_the_engine():
    driver = SessionDriver(audio={"input": {"format": {"type": "audio/pcm", "rate": 16000}}})
    samples = (0.1 * np.sin(np.arange(40 * 16_000) / 10)).astype(np.float32)
    audio = base64.b64encode(encode_pcm16(samples)).decode()
    sent = driver.say(
        {
            "type": "conversation.item.create",
            "item": {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_audio", "audio": audio, "transcript": "hum"}],
            },
        }
    )
    assert only(sent, "conversation.item.added")["item"]["content"] == [
        {"type": "input_audio", "transcript": "hum"}
    ]
    part = of_kind(driver, InsertItem)[-1].item.parts[0]
    assert isinstance(part, AudioPart)
    assert len(part.clips) == 2
    assert all(len(clip) < 30 * 32_000 for clip in part.clips)
    assert b"".join(part.clips) == encode_pcm16(samples)


def test_a_full_conversation_refuses_typed_items_and_makes_room_for_spoken_ones():
    driver = SessionDriver(limits=Limits(max_items=2))
    driver.say(message("one", id="a"))
    driver.say(message("two", id="b"))
    error = only(driver.say(message("three")), "error")["error"]
    assert error["code"] == "too_many_items"
    sent = driver.turn()
    assert only(sent, "conversation.item.deleted")["item_id"] == "a"
    sent = driver.text("Yes.") + driver.end()
    assert only(sent, "conversation.item.deleted")["item_id"] == "b"
    assert only(sent, "response.done")["response"]["status"] == "completed"


# ---------------------------------------------------------------- settings


def test_settings_are_merged_shown_in_effect_and_passed_to_the_engine():
    driver = SessionDriver()
    sent = driver.say(
        update(
            model="gpt-realtime",
            output_modalities=["audio"],
            instructions="Speak Latin.",
            tracing="auto",
            audio={
                "input": {
                    "noise_reduction": {"type": "near_field"},
                    "transcription": {"model": "gpt-4o-mini-transcribe", "language": "de"},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 800},
                },
                "output": {"voice": "alloy", "speed": 1.1},
            },
        )
    )
    session = only(sent, "session.updated")["session"]
    assert session["output_modalities"] == ["text"]
    assert session["model"] == "test-model"
    assert session["tracing"] is None
    assert session["audio"]["output"] is None
    assert session["audio"]["input"]["noise_reduction"] is None
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    detection = session["audio"]["input"]["turn_detection"]
    assert (detection["silence_duration_ms"], detection["threshold"]) == (800, 0.5)
    configured = of_kind(driver, Configure)[-1]
    assert (configured.instructions, configured.language) == ("Speak Latin.", "de")
    # Absent fields stay, null clears.
    sent = driver.say(update(audio={"input": {"transcription": None}}))
    session = only(sent, "session.updated")["session"]
    assert session["audio"]["input"]["transcription"] is None
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 800
    assert session["instructions"] == "Speak Latin."


@pytest.mark.parametrize(
    ("asked", "engine"),
    [
        ("auto", Truncation()),
        ("disabled", Truncation(allowed=False)),
        ({"type": "retention_ratio", "retention_ratio": 0.25}, Truncation(retention_ratio=0.25)),
        ({"type": "retention_ratio", "retention_ratio": 1}, Truncation(retention_ratio=1.0)),
    ],
)
def test_truncation_reaches_the_engine(asked, engine):
    driver = SessionDriver()
    driver.say(update(truncation={"type": "retention_ratio", "retention_ratio": 0.7}))
    session = only(driver.say(update(truncation=asked)), "session.updated")["session"]
    shown = session["truncation"]
    assert (shown if isinstance(asked, str) else {k: shown[k] for k in asked}) == asked
    assert engine_settings(of_kind(driver, Configure)[-1]).truncation == engine


def test_a_refused_update_changes_nothing():
    driver = SessionDriver(instructions="Stay.")
    sent = driver.say(
        update(
            instructions="Go.",
            audio={"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": -1}}},
        )
    )
    error = only(sent, "error")["error"]
    assert error["param"] == "session.audio.input.turn_detection.silence_duration_ms"
    sent = driver.say(update())
    assert only(sent, "session.updated")["session"]["instructions"] == "Stay."


def test_the_longest_session_and_idleness_are_announced_and_end_it():
    limits = Limits(max_session_s=600, idle_timeout_s=100, expiry_warning_s=30)
    driver = SessionDriver(limits=limits, extensions=frozenset({"timings"}))
    warning = only(driver.wait(71), "voice_agent.session.expiring")
    assert (warning["reason"], warning["remaining_s"]) == ("idle", 30.0)
    driver.silence(32)
    assert driver.wait(50) == []
    sent = driver.wait(60)
    assert only(sent, "error")["error"]["code"] == "session_expired"
    assert driver.closed is not None
    assert driver.closed.limit == "idle"


def test_timings_come_only_when_asked_for_and_add_up():
    assert "voice_agent.turn.timings" not in types(SessionDriver().turn())
    driver = SessionDriver(extensions=frozenset({"timings"}))
    driver.turn()
    driver.text("Yes")
    sent = driver.end(stages_ms={"recognition": 20.0, "prompt": 5.0})
    assert types(sent)[-1] == "voice_agent.turn.timings"
    timings = sent[-1]
    assert timings["turn_end_delay_ms"] == pytest.approx(512, abs=1)
    total = timings["speech_end_to_first_token_ms"]
    assert sum(timings["stages_ms"].values()) == pytest.approx(total, abs=0.5)
    assert driver.reports[-1].first_token_ms == pytest.approx(total, abs=0.1)
