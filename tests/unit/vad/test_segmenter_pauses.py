"""Pauses, and where silence or length ends a turn."""

from __future__ import annotations

from agent.vad.events import Heard, Paused, Resumed, SpeechStarted, Stopped, StopReason
from tests.helpers.segmenter_run import SECOND, F, Run, vad


def test_a_pause_that_ends_is_announced_before_the_speech_is_heard() -> None:
    run = Run()
    run.speech(10)
    run.silence(8)
    before = len(run.events)
    run.speech(1)
    resumed, heard_then = run.events[before:]
    assert resumed == Resumed(18 * F)
    assert isinstance(heard_then, Heard)
    assert run.silence(6) == [Paused(19 * F)]


def test_no_pause_where_the_turn_ends() -> None:
    run = Run(vad(silence_duration_ms=180))
    run.speech(10)
    assert run.silence(6) == [Stopped(16 * F, 10 * F, StopReason.SILENCE)]


def test_the_silence_limit_may_change_in_the_middle_of_a_silence() -> None:
    run = Run()
    run.speech(10)
    run.silence(10)
    run.segmenter.silence_duration_ms = 200
    assert run.silence(1) == [Stopped(21 * F, 10 * F, StopReason.SILENCE)]
    run.segmenter.silence_duration_ms = 2_000
    run.speech(10)
    assert run.silence(62) == [Paused(31 * F)]
    assert run.silence(1) == [Stopped((31 + 63) * F, 31 * F, StopReason.SILENCE)]


def test_a_turn_does_not_end_while_somebody_may_go_on() -> None:
    run = Run()
    run.speech(10)
    run.silence(15)
    assert run.push(4, 0.11) == []
    assert run.silence(1) == [Stopped(30 * F, 10 * F, StopReason.SILENCE)]


def test_a_turn_is_not_held_open_for_longer_than_a_quarter_of_a_second() -> None:
    run = Run()
    run.speech(10)
    run.push(15, 0.3)
    assert run.push(8, 0.3) == []
    assert run.push(1, 0.3) == [Stopped(34 * F, 10 * F, StopReason.SILENCE)]


def test_the_longest_turn_ends_and_the_next_begins_with_the_next_sample() -> None:
    run = Run(vad(max_turn_s=32))
    run.speech(1_000)
    end = 1_000 * F
    assert run.segmenter.turn_samples == 32 * SECOND
    assert run.speech(1) == [
        Stopped(end, end, StopReason.MAX_TURN),
        SpeechStarted(end),
    ]
    assert run.segmenter.turn_samples == F


def test_a_pause_at_the_longest_turn_waits_for_speech_before_the_next() -> None:
    run = Run(vad(max_turn_s=32))
    run.speech(997)
    run.silence(3)
    assert run.silence(2) == [Stopped(1_000 * F, 997 * F, StopReason.MAX_TURN)]
    assert not run.segmenter.hearing
    # One frame is enough: it belongs to a word that was begun.
    assert run.speech(1) == [SpeechStarted(1_000 * F)]


def test_after_a_long_silence_the_next_turn_must_be_earned() -> None:
    run = Run(vad(max_turn_s=32))
    run.speech(1_000)
    assert run.silence(1) == [Stopped(1_000 * F, 1_000 * F, StopReason.MAX_TURN)]
    run.silence(6)
    assert run.speech(1) == []
    assert not run.segmenter.hearing
