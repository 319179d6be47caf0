"""Where long turns are cut into clips."""

from __future__ import annotations

import numpy as np

from agent.vad.events import Cut, Paused, Resumed, Stopped, StopReason
from tests.helpers.segmenter_run import SECOND, F, Run, clip_lengths, vad


def test_a_long_clip_is_cut_in_the_middle_of_a_pause_when_speech_goes_on() -> None:
    run = Run()
    run.speech(700)  # 22.4 s
    assert run.silence(15) == [Paused(700 * F)]
    assert run.speech(1) == [Resumed(715 * F), Cut(715 * F - 15 * F // 2, forced=False)]
    assert run.segmenter.clip_samples == 15 * F // 2 + F
    assert run.segmenter.in_turn


def test_a_short_clip_is_cut_at_no_pause() -> None:
    run = Run()
    run.speech(600)  # 19.2 s
    run.silence(15)
    assert run.speech(1) == [Resumed(615 * F)]


def test_a_pause_too_short_for_the_clip_does_not_cut() -> None:
    run = Run()
    run.speech(700)
    run.silence(5)  # 160 ms; 380 ms are needed at 22.4 s
    assert run.speech(1) == []
    run.speech(900 - 706)  # 28.8 s: 66 ms are needed
    run.silence(3)
    assert run.speech(1) == [Cut(903 * F - 3 * F // 2, forced=False)]


def test_a_turn_that_ends_in_its_pause_is_not_cut_there() -> None:
    run = Run()
    run.speech(800)
    assert run.silence(16) == [Paused(800 * F), Stopped(816 * F, 800 * F, StopReason.SILENCE)]
    assert len(run.listener.turns[0].clips) == 1


def test_without_a_pause_the_cut_falls_on_the_quietest_frame_of_the_last_seconds() -> None:
    run = Run()
    run.speech(700)
    run.push(5, 0.9, level=0.0001)  # quieter, but more than 5 s before the limit
    run.speech(75)
    run.push(5, 0.9, level=0.001)  # frames 780…784
    run.speech(136)
    assert run.segmenter.clip_samples == 921 * F  # 472,000 samples are 921.9 frames
    assert run.speech(1) == [Cut(782 * F + 256, forced=True)]
    assert run.segmenter.clip_samples == (922 - 783) * F + 256


def test_endless_speech_loses_nothing() -> None:
    run = Run()
    rng = np.random.default_rng(0)
    for _ in range(3_700):  # 118 s
        samples = rng.uniform(-0.3, 0.3, F).astype(np.float32)
        run.listener.push(samples, run.segmenter.push(samples, 0.9))
    lengths = clip_lengths(run)
    assert sum(lengths) == 3_700 * F
    assert len(lengths) == 5
    assert all(24 * SECOND <= length <= 29.5 * SECOND for length in lengths[:-1])


def test_a_pause_that_outlasts_the_clip_is_cut_at_the_limit() -> None:
    run = Run(vad(silence_duration_ms=60_000, max_turn_s=3_600))
    run.speech(800)
    cuts = run.silence(1_800)
    assert [type(event) for event in cuts] == [Paused, Cut, Cut]
    assert Resumed(2_600 * F) in run.speech(1)
    assert all(length < 30 * SECOND for length in clip_lengths(run))


def test_a_cut_leaves_more_than_half_however_far_it_may_look_back() -> None:
    run = Run(vad(clip_soft_limit_s=4, clip_hard_limit_s=5, cut_window_s=4.9))
    run.silence(40)
    run.speech(146)
    (cut,) = run.speech(1)
    assert isinstance(cut, Cut)
    assert cut.keep_samples > 2.4 * SECOND
