"""What came before a turn, and after the one before it: the next one reaches back to it."""

from __future__ import annotations

import pytest

from agent.vad.events import Heard, SpeechStarted
from tests.helpers.segmenter_run import PREFIX, F, Run, vad


def test_a_turn_begins_with_what_may_have_been_speech_before_it() -> None:
    run = Run()
    run.silence(50)
    run.push(1, 0.08)
    run.silence(50)
    assert run.speech(4) == [SpeechStarted((50 - PREFIX) * F)]


def test_it_reaches_back_over_the_end_of_the_last_turn_only_to_its_end() -> None:
    run = Run()
    run.speech(10)
    run.silence(16)
    run.silence(1)
    run.push(1, 0.08)
    run.silence(60)
    assert run.speech(4) == [SpeechStarted(26 * F)]


def test_a_turn_begins_with_what_came_soon_after_the_last_one_as_loud_as_its_speech() -> None:
    run = Run()
    run.speech(10)
    run.silence(20)
    run.silence(1, level=0.04)
    run.silence(90)
    assert run.speech(4) == [SpeechStarted(26 * F)]


@pytest.mark.parametrize(("frames", "level"), [(15, 0.03), (16, 0.1)])
def test_it_does_not_begin_with_what_was_quieter_or_came_later(frames: int, level: float) -> None:
    run = Run()
    run.speech(10)
    run.silence(16)
    run.silence(frames)
    run.silence(1, level=level)
    run.silence(60)
    assert run.speech(4) == [SpeechStarted((87 + frames - PREFIX) * F)]


def test_what_is_older_than_the_padding_is_told_apart() -> None:
    run = Run()
    run.silence(50)
    run.push(1, 0.08)
    run.silence(50)
    run.speech(4)
    first = next(event for event in run.events if isinstance(event, Heard))
    assert first.samples.size == (PREFIX + 53) * F
    assert first.reached_back == first.samples.size - (PREFIX + 2) * F


def test_it_reaches_back_for_a_few_seconds_only() -> None:
    run = Run(vad(reach_back_s=1.0))
    run.silence(50)
    run.push(1, 0.08)
    run.silence(32)
    assert run.speech(4) == [SpeechStarted((83 - PREFIX) * F)]


def test_it_need_not_reach_back() -> None:
    run = Run(vad(reach_back_s=0.0))
    run.push(50, 0.3)
    assert run.speech(4) == [SpeechStarted((50 - PREFIX) * F)]


def test_the_next_pre_roll_does_not_reach_into_the_turn_before() -> None:
    run = Run()
    run.speech(10)
    run.silence(16)
    run.silence(3)
    assert run.speech(4) == [SpeechStarted(26 * F)]


def test_just_after_a_turn_less_is_speech() -> None:
    run = Run()
    run.speech(10)
    run.silence(16)
    run.silence(5)
    assert run.push(1, 0.16) == []
    assert run.push(3, 0.08) == [SpeechStarted(26 * F)]


def test_a_second_after_the_speech_of_a_turn_as_much_is_needed_as_ever() -> None:
    run = Run()
    run.speech(10)
    run.silence(32)
    assert run.push(10, 0.49) == []
