from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from agent.audio.pcm import Samples
from agent.config import VadSettings
from agent.vad.events import (
    Cut,
    Heard,
    Misfire,
    Paused,
    Resumed,
    SegmentEvent,
    SpeechStarted,
    Stopped,
    StopReason,
)
from agent.vad.segmenter import Segmenter
from tests.helpers.segments import Listener

F = 512  # one frame; with `vad()`: hearing 2, speech 4, misfire 7, pause 6, silence 16
PREFIX = 10
SECOND = 16_000


def vad(**changes: Any) -> VadSettings:
    """The defaults, but for four frames that make a turn."""
    return VadSettings(**({"min_speech_ms": 128} | changes))


class Run:
    """Feeds frames that are told apart by their values, and keeps what comes out."""

    def __init__(self, settings: VadSettings | None = None, *, manual: bool = False) -> None:
        self.segmenter = Segmenter(settings or vad(), manual=manual)
        self.listener = Listener(manual=manual)
        self.events: list[SegmentEvent] = []

    def push(self, frames: int, probability: float, level: float = 0.1) -> list[SegmentEvent]:
        """All events of these frames, those that are heard left out."""
        before = len(self.events)
        for _ in range(frames):
            samples = np.full(F, level, np.float32)
            events = self.segmenter.push(samples, probability)
            self.listener.push(samples, events)
            self.events += events
        return without_heard(self.events[before:])

    def speech(self, frames: int) -> list[SegmentEvent]:
        return self.push(frames, 0.9)

    def silence(self, frames: int, level: float = 0.001) -> list[SegmentEvent]:
        return self.push(frames, 0.0, level)

    def stop(self, reason: StopReason) -> list[SegmentEvent]:
        events = self.segmenter.stop(reason)
        self.listener.take(events)
        return events


def without_heard(events: Iterable[SegmentEvent]) -> list[SegmentEvent]:
    return [event for event in events if not isinstance(event, Heard)]


def heard(events: Iterable[SegmentEvent]) -> list[Samples]:
    return [event.samples for event in events if isinstance(event, Heard)]


# Starting


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


# Reaching back


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


# Misfires


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


# Pauses


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


def test_the_next_pre_roll_does_not_reach_into_the_turn_before() -> None:
    run = Run()
    run.speech(10)
    run.silence(16)
    run.silence(3)
    assert run.speech(4) == [SpeechStarted(26 * F)]


# Clips


def clip_lengths(run: Run) -> list[int]:
    run.stop(StopReason.COMMITTED)
    return [clip.size for turn in run.listener.turns for clip in turn.clips]


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


# The longest turn


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


# From outside


def test_a_commit_in_mid_speech_goes_on_with_the_next_frame() -> None:
    run = Run()
    run.speech(10)
    assert run.stop(StopReason.COMMITTED) == [Stopped(10 * F, 10 * F, StopReason.COMMITTED)]
    assert run.speech(1) == [SpeechStarted(10 * F)]


def test_a_commit_in_a_pause_lets_the_next_turn_begin_as_any() -> None:
    run = Run()
    run.speech(10)
    run.silence(10)
    run.stop(StopReason.COMMITTED)
    assert run.speech(1) == []
    assert not run.segmenter.hearing
    assert run.speech(3) == [SpeechStarted(20 * F)]


def test_a_commit_announces_speech_that_was_only_heard() -> None:
    run = Run()
    run.speech(3)
    assert run.stop(StopReason.COMMITTED) == [
        SpeechStarted(0),
        Stopped(3 * F, 3 * F, StopReason.COMMITTED),
    ]


def test_a_stall_ends_a_turn_but_makes_none() -> None:
    run = Run()
    run.speech(10)
    assert run.stop(StopReason.STALLED) == [Stopped(10 * F, 10 * F, StopReason.STALLED)]
    assert run.push(4, 0.4) == []  # what follows must start anew
    assert not run.segmenter.hearing
    run.speech(3)
    assert run.stop(StopReason.STALLED) == [Misfire()]
    # What was forgotten is the pre-roll of what follows.
    assert run.speech(4) == [SpeechStarted(10 * F)]


def test_nothing_is_stopped_where_nothing_was_heard() -> None:
    run = Run()
    run.silence(5)
    run.speech(1)
    for reason in StopReason:
        assert run.stop(reason) == []


def test_reset_forgets_the_turn_and_the_pre_roll() -> None:
    run = Run()
    run.silence(20)
    assert run.segmenter.reset() == []
    assert run.speech(4) == [SpeechStarted(20 * F)]
    assert run.segmenter.reset() == [Misfire()]
    assert not run.segmenter.hearing
    run.listener.take([Misfire()])
    assert run.segmenter.position_sample == 24 * F
    assert run.speech(4) == [SpeechStarted(24 * F)]


# Manual turns


def test_manual_turns_hear_everything_and_end_when_told() -> None:
    run = Run(manual=True)
    assert run.silence(10) == []
    assert run.segmenter.in_turn
    assert len(heard(run.events)) == 10
    assert run.stop(StopReason.COMMITTED) == [Stopped(10 * F, 10 * F, StopReason.COMMITTED)]
    assert run.stop(StopReason.COMMITTED) == []
    run.speech(1)
    assert heard(run.events)[-1].size == F
    assert run.segmenter.speech_samples == 0


def test_manual_turns_are_cut_and_have_no_longest_turn() -> None:
    run = Run(vad(max_turn_s=31), manual=True)
    cuts = run.silence(3_000)  # 96 s
    assert len(cuts) == 3
    assert all(isinstance(cut, Cut) and cut.forced for cut in cuts)
    assert all(length < 30 * SECOND for length in clip_lengths(run))
    assert run.listener.committed().all()


# Other settings in the middle


def test_other_settings_keep_the_open_turn() -> None:
    run = Run()
    run.speech(10)
    assert run.segmenter.configure(vad(silence_duration_ms=64, threshold=0.95)) == []
    assert run.speech(1) == []  # goes on: 0.9 is above 0.8
    assert run.silence(2) == [Stopped(13 * F, 11 * F, StopReason.SILENCE)]
    run.silence(32)
    assert run.push(10, 0.79) == []  # and that does not start any more
    assert run.segmenter.silence_duration_ms == 64


def test_a_shorter_clip_limit_cuts_what_is_too_long_already() -> None:
    run = Run()
    run.speech(800)
    run.segmenter.configure(vad(clip_soft_limit_s=5, clip_hard_limit_s=8, cut_window_s=2))
    (cut,) = run.speech(1)
    assert isinstance(cut, Cut)
    assert run.segmenter.clip_samples <= 2 * SECOND + 2 * F


def test_a_shorter_clip_limit_may_cut_inside_the_pre_roll() -> None:
    run = Run(vad(prefix_padding_ms=4_000))
    run.silence(100)
    run.push(25, 0.0, level=0.0)
    run.speech(4)
    run.segmenter.configure(vad(clip_soft_limit_s=1.5, clip_hard_limit_s=2, cut_window_s=1.9))
    (cut,) = run.speech(1)
    assert cut == Cut((100 + 22) * F + 256, forced=True)


def test_from_server_to_manual_the_turn_stays_and_a_pause_ends() -> None:
    run = Run()
    run.speech(10)
    run.silence(8)
    assert run.segmenter.configure(vad(), manual=True) == [Resumed(18 * F)]
    assert run.silence(100) == []
    assert run.segmenter.stop(StopReason.COMMITTED) == [
        Stopped(118 * F, 118 * F, StopReason.COMMITTED)
    ]


def test_from_server_to_manual_the_pre_roll_is_heard_too() -> None:
    run = Run()
    run.silence(30)
    run.segmenter.configure(vad(), manual=True)
    run.listener.manual = True
    run.silence(1)
    assert heard(run.events)[0].size == (PREFIX + 2) * F
    assert len(heard(run.events)) == 1


def test_from_manual_to_server_what_was_heard_becomes_a_turn() -> None:
    run = Run(manual=True)
    run.silence(10)
    assert run.segmenter.configure(vad(), manual=False) == [SpeechStarted(0)]
    run.listener.manual = False
    run.listener.take([SpeechStarted(0)])
    assert run.silence(16)[-1] == Stopped(26 * F, 10 * F, StopReason.SILENCE)


def test_shrinking_settings_keep_a_run_of_speech_that_is_not_heard_yet() -> None:
    run = Run(vad(hearing_after_ms=2_000))
    run.speech(60)
    assert not run.segmenter.hearing
    run.segmenter.configure(vad(prefix_padding_ms=0, hearing_after_ms=64))
    assert run.speech(1) == [SpeechStarted(0)]


# Wrong use


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
