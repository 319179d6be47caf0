"""`idle_timeout_ms`: the model speaks up when nobody does, for clients that asked for it."""

from __future__ import annotations

import pytest

from agent.session.commands import Commit, Hear
from tests.helpers.session import SessionDriver, only, types

IDLE = {"audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5_000}}}}


def answered(**config) -> SessionDriver:
    driver = SessionDriver(**config)
    driver.turn()
    driver.text("Yes.")
    driver.end()
    return driver


def test_silence_after_an_answer_is_committed_and_answered():
    driver = answered(**IDLE)
    began_ms = driver.session._listening.position_sample // 16
    assert driver.silence(4_960) == []
    sent = driver.silence(64) + driver.wait(0.0)
    assert types(sent) == [
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    triggered = sent[0]
    assert triggered["item_id"] == sent[1]["item_id"] == sent[2]["item"]["id"]
    assert sent[2]["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert triggered["audio_start_ms"] == began_ms
    assert triggered["audio_end_ms"] - began_ms == pytest.approx(5_000, abs=40)
    # And again, after that answer.
    driver.text("Are you there?")
    assert driver.reports[-1].end_reason != "idle"
    driver.end()
    assert driver.reports[-1].end_reason == "idle"
    sent = driver.silence(5_024) + driver.wait(0.0)
    assert "input_audio_buffer.timeout_triggered" in types(sent)


def test_the_silence_is_heard_once():
    driver = answered(**IDLE)
    driver.silence(5_024)
    driver.wait(0.0)
    assert len([c for c in driver.commands if isinstance(c, Commit)]) == 2
    driver.turn()
    heard = sum(len(c.samples) for c in driver.commands if isinstance(c, Hear))
    assert heard <= driver.session._listening.position_sample


def test_a_client_that_sends_no_audio_is_spoken_to_as_well():
    driver = answered(**IDLE)
    assert driver.wait(4.9) == []
    driver.session._listening._segmenter.take_pre_roll()
    assert "response.created" in types(driver.wait(0.2))


def test_speech_and_answers_stop_the_clock():
    driver = answered(**IDLE)
    driver.silence(4_000)
    driver.speech(1_000)
    assert "input_audio_buffer.timeout_triggered" not in types(driver.silence(800))
    driver.text("A long")  # an answer in progress
    assert driver.wait(20.0) == []
    driver.end()
    assert driver.wait(4.9) == []
    assert only(driver.wait(0.2), "input_audio_buffer.timeout_triggered")


def test_a_sound_that_is_no_speech_does_not_start_it_again():
    driver = answered(**IDLE)
    driver.silence(4_800)
    sent = driver.speech(64) + driver.silence(320) + driver.wait(0.0)
    assert "input_audio_buffer.timeout_triggered" in types(sent)


@pytest.mark.parametrize("config", [{}, {"audio": {"input": {"turn_detection": None}}}], ids=str)
def test_it_is_off_by_default(config):
    driver = answered(**config) if not config else SessionDriver(**config)
    driver.say({"type": "response.create"})
    driver.end()
    assert "input_audio_buffer.timeout_triggered" not in types(driver.wait(60.0))


def test_nothing_happens_before_the_first_answer():
    driver = SessionDriver(**IDLE)
    assert driver.wait(60.0) == []


@pytest.mark.parametrize("timeout_ms", [4_999, 30_001, 0, "soon"])
def test_its_range_is_that_of_the_protocol(timeout_ms):
    driver = SessionDriver()
    detection = {"type": "server_vad", "idle_timeout_ms": timeout_ms}
    session = {"audio": {"input": {"turn_detection": detection}}}
    error = only(driver.say({"type": "session.update", "session": session}), "error")["error"]
    assert error["param"] == "session.audio.input.turn_detection.idle_timeout_ms"
    detection["idle_timeout_ms"] = 5_000
    sent = driver.say({"type": "session.update", "session": session})
    shown = only(sent, "session.updated")["session"]["audio"]["input"]["turn_detection"]
    assert shown["idle_timeout_ms"] == 5_000
