"""Suspicions: raised by a run of frames, over with the first that is none, or by themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.session.suspicion import LIKELY_ENOUGH, LONGEST_S, Suspicion

FRAME = 512


def raised_after(likelihoods: list[float], after_ms: int = 96) -> list[bool]:
    """Whether there is one after each frame of 32 ms."""
    suspicion, raised = Suspicion(after_ms), []
    for number, likelihood in enumerate(likelihoods):
        now = 100.0 + number * 0.032
        before = suspicion.since
        changed = suspicion.push(likelihood, FRAME, now)
        assert changed is (suspicion.since is not before)
        suspicion.tick(now)
        raised.append(suspicion.since is not None)
    return raised


def test_three_likely_frames_in_a_row_raise_it() -> None:
    assert raised_after([0.6, 0.6, 0.2, 2.0, 0.5, 0.5, 0.5, 0.4]) == [False] * 5 + [
        True,
        True,
        False,
    ]


def test_what_is_forgotten_is_not_suspected() -> None:
    suspicion = Suspicion(32)
    assert suspicion.push(1.0, FRAME, 100.0)
    suspicion.forget()
    assert suspicion.deadline is None
    assert suspicion.push(1.0, FRAME, 100.1)
    assert suspicion.deadline == 100.1 + LONGEST_S


@given(st.lists(st.floats(0.0, 2.0), max_size=60), st.integers(1, 200))
def test_it_stands_on_a_run_of_likely_frames_and_not_for_long(
    likelihoods: list[float], after_ms: int
) -> None:
    raised = raised_after(likelihoods, after_ms)
    needed = -(-after_ms // 32)
    for index, is_raised in enumerate(raised):
        run = 0
        while run <= index and likelihoods[index - run] >= LIKELY_ENOUGH:
            run += 1
        lasted_s = (run - needed) * 0.032
        assert is_raised == (run >= needed and lasted_s < LONGEST_S - 1e-9)
