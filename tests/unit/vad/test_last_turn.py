from __future__ import annotations

import numpy as np

from agent.config import VadSettings
from agent.vad.last_turn import LastTurn
from agent.vad.limits import SegmentLimits

LIMITS = SegmentLimits.of(VadSettings())
END = 50_000


def frame(level: float) -> np.ndarray:
    return np.full(512, level, np.float32)


def ended() -> LastTurn:
    """A turn with speech at 0.1, after a misfire that was louder."""
    turn = LastTurn()
    turn.follow()
    turn.speak(frame(0.9))
    turn.follow()
    turn.speak(frame(0.1))
    turn.end(END, END - 8_000)
    return turn


def test_before_the_first_turn_nothing_goes_on() -> None:
    turn = LastTurn()
    assert not turn.is_recent(0, LIMITS)
    assert not turn.may_go_on(frame(1.0), 0, LIMITS)


def test_speech_is_recent_for_a_second_after_the_last_speech() -> None:
    turn = ended()
    assert turn.is_recent(END + 7_999, LIMITS)
    assert not turn.is_recent(END + 8_000, LIMITS)


def test_what_is_ten_decibels_quieter_than_the_speech_may_go_on_for_half_a_second() -> None:
    turn = ended()
    assert turn.may_go_on(frame(0.032), END, LIMITS)
    assert not turn.may_go_on(frame(0.031), END, LIMITS)
    assert turn.may_go_on(frame(0.032), END + 7_999, LIMITS)
    assert not turn.may_go_on(frame(0.1), END + 8_000, LIMITS)


def test_where_no_speech_was_measured_loudness_says_nothing() -> None:
    turn = LastTurn()
    turn.follow()
    turn.end(END, END)
    assert not turn.may_go_on(frame(1.0), END, LIMITS)


def test_what_is_forgotten_does_not_go_on() -> None:
    turn = ended()
    turn.forget()
    assert not turn.is_recent(END, LIMITS)
    assert not turn.may_go_on(frame(0.1), END, LIMITS)
