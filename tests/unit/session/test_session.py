"""Whole conversations replayed against the sans-I/O session."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from openai.types.realtime import RealtimeResponseUsage

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
    Forget,
    Hear,
    Pause,
    Resume,
)
from tests.helpers.session import USAGE, SessionDriver, of_kind, only, types, update

MANUAL = {"audio": {"input": {"turn_detection": None}}}
TRANSCRIBED = {"audio": {"input": {"transcription": {"model": "any"}}}}


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


def test_tools_that_must_not_be_called_are_not_shown_to_the_engine():
    driver = SessionDriver()
    tool = {"type": "function", "name": "lamp"}
    driver.say({"type": "session.update", "session": {"tools": [tool], "tool_choice": "none"}})
    configured = [one for one in driver.commands if isinstance(one, Configure)]
    assert configured[-1].tools == ()
    driver.say({"type": "session.update", "session": {"tool_choice": "auto"}})
    configured = [one for one in driver.commands if isinstance(one, Configure)]
    assert configured[-1].tools == (tool,)
