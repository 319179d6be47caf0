"""What clients do: commits, stalls, manual turns, other settings."""

from __future__ import annotations

from agent.vad.events import Cut, Misfire, Resumed, SpeechStarted, Stopped, StopReason
from tests.helpers.segmenter_run import PREFIX, SECOND, F, Run, clip_lengths, heard, vad


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
