"""How a turn begins, and what is none."""

from __future__ import annotations

import numpy as np
import pytest

from agent.vad.events import Heard, Misfire, Paused, Resumed, SpeechStarted, Stopped, StopReason
from agent.vad.segmenter import Segmenter
from tests.helpers.segmenter_run import PREFIX, F, Run, heard, vad


def test_a_turn_from_the_first_frame_to_the_last() -> None:
    run = Run()
    run.silence(30)
    assert run.speech(1) == []
    assert not run.segmenter.hearing
    assert run.speech(1) == []
    assert run.segmenter.hearing
    assert not run.segmenter.in_turn
    assert run.speech(2) == [SpeechStarted((30 - PREFIX) * F)]
    assert run.segmenter.in_turn
    assert run.speech(6) == []
    assert run.segmenter.speech_samples == 10 * F
    assert run.silence(6) == [Paused(40 * F)]
    assert run.silence(9) == []
    assert run.segmenter.silence_samples == 15 * F
    assert run.silence(1) == [Stopped(56 * F, 40 * F, StopReason.SILENCE)]
    assert not run.segmenter.hearing
    assert run.segmenter.speech_samples == run.segmenter.clip_samples == 0
    assert run.segmenter.position_sample == 56 * F


def test_the_first_heard_is_the_pre_roll_and_the_speech_that_opened_the_ear() -> None:
    run = Run()
    run.silence(30)
    run.speech(2)
    assert [piece.size for piece in heard(run.events)] == [(PREFIX + 2) * F]
    run.speech(1)
    assert heard(run.events)[1].size == F


def test_at_the_beginning_of_a_session_the_pre_roll_is_what_there_is() -> None:
    run = Run()
    assert run.speech(4) == [SpeechStarted(0)]


def test_without_prefix_padding_the_speech_that_opened_the_ear_is_heard_still() -> None:
    run = Run(vad(prefix_padding_ms=0))
    run.silence(30)
    assert run.speech(4) == [SpeechStarted(30 * F)]


def test_hearing_and_turn_may_begin_with_the_same_frame() -> None:
    run = Run(vad(hearing_after_ms=0, min_speech_ms=0, prefix_padding_ms=0))
    run.silence(1)
    frame = np.full(F, 0.1, np.float32)
    events = run.segmenter.push(frame, 0.9)
    assert isinstance(events[0], Heard)
    assert events[1:] == [SpeechStarted(F)]


def test_single_frames_of_noise_are_not_heard() -> None:
    run = Run()
    for _ in range(20):
        run.speech(1)
        run.silence(1)
    assert run.events == []


def test_nan_is_silence() -> None:
    run = Run()
    assert run.push(50, float("nan")) == []


def test_hysteresis() -> None:
    run = Run()
    assert run.push(10, 0.49) == []  # below the threshold: no start
    run.speech(1)
    assert run.push(3, 0.36) == [SpeechStarted(0)]  # goes on down to 0.35
    assert run.push(6, 0.34) == [Paused(14 * F)]
    assert run.push(3, 0.39) == []  # once silent, it takes more again
    assert run.push(1, 0.4) == [Resumed(23 * F)]  # but less than to begin


def test_too_little_speech_is_a_misfire_and_becomes_pre_roll_again() -> None:
    run = Run()
    run.silence(30)
    run.speech(3)
    assert run.silence(6) == []
    assert run.silence(1) == [Misfire()]
    assert not run.segmenter.hearing
    # What comes next begins where that would have begun.
    assert run.speech(4) == [SpeechStarted((30 - PREFIX) * F)]


def test_speech_in_pieces_adds_up_to_a_turn() -> None:
    run = Run()
    run.speech(2)
    run.silence(6)
    run.speech(1)
    run.silence(6)
    assert run.speech(1) == [SpeechStarted(0)]


def test_more_than_a_frame_is_refused() -> None:
    segmenter = Segmenter(vad())
    with pytest.raises(ValueError, match="513 samples are more than one frame"):
        segmenter.push(np.zeros(513, np.float32), 0.0)
    assert segmenter.position_sample == 0


@pytest.mark.parametrize("manual", [True, False])
def test_no_samples_are_nothing(manual: bool) -> None:
    segmenter = Segmenter(vad(), manual=manual)
    assert segmenter.push(np.zeros(0, np.float32), 1.0) == []
    assert not segmenter.hearing
