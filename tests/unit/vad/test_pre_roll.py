from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.config import VadSettings
from agent.vad.limits import SegmentLimits
from agent.vad.pre_roll import Piece, PreRoll, joined

F = 512
LIMITS = SegmentLimits.of(VadSettings(reach_back_s=2.0))  # pre-roll: 10 and 2 frames


def piece(number: int, maybe: bool = False, size: int = F) -> Piece:
    """Samples that are told apart by their value."""
    return np.full(size, number, np.float32), maybe


def test_the_last_samples_are_kept() -> None:
    pre_roll = PreRoll()
    for number in range(40):
        pre_roll.add(piece(number), LIMITS, 0)
    assert len(pre_roll) == LIMITS.pre_roll
    assert joined(pre_roll.take())[::F].tolist() == list(range(28, 40))
    assert len(pre_roll) == 0


def test_all_since_what_may_have_been_speech_is_kept_and_the_padding_before_it() -> None:
    pre_roll = PreRoll()
    for number in range(60):
        pre_roll.add(piece(number, maybe=number == 30), LIMITS, 0)
    assert joined(pre_roll.take())[0] == 20


def test_what_is_too_old_is_dropped_again() -> None:
    pre_roll = PreRoll()
    for number in range(120):
        pre_roll.add(piece(number, maybe=number == 30), LIMITS, 0)
    assert len(pre_roll) == LIMITS.pre_roll


def test_quiet_is_taken_without_the_speech_at_its_end() -> None:
    pre_roll = PreRoll()
    for number in range(50):
        pre_roll.add(piece(number, maybe=number == 20), LIMITS, 0)
    pre_roll.add(piece(50, maybe=True), LIMITS, F)
    taken = pre_roll.take_quiet(LIMITS, F)
    assert taken[::F].tolist() == list(range(38, 50))
    assert joined(pre_roll.take())[::F].tolist() == [50]


def test_of_nothing_nothing_is_taken() -> None:
    assert PreRoll().take_quiet(LIMITS, 0).size == 0


@given(
    st.lists(st.tuples(st.integers(1, F), st.booleans()), max_size=300),
    st.integers(0, 3),
)
def test_what_may_have_been_speech_is_kept_and_no_more_than_there_is_a_limit_for(
    pieces: list[tuple[int, bool]], run_frames: int
) -> None:
    pre_roll = PreRoll()
    came = np.arange(sum(size for size, _ in pieces), dtype=np.float32)
    position = 0
    maybe_at: list[int] = []
    for size, maybe in pieces:
        samples = came[position : position + size]
        maybe_at += [position] * maybe
        position += size
        pre_roll.add((samples, maybe), LIMITS, min(position, run_frames * F))
        assert min(position, LIMITS.pre_roll) <= len(pre_roll) < LIMITS.reach_back + F
        ages = (position - at for at in maybe_at)
        oldest = max((age for age in ages if age <= LIMITS.reach_back), default=0)
        assert len(pre_roll) >= oldest
    kept = joined(pre_roll.take())
    assert kept.tolist() == came[came.size - kept.size :].tolist()
