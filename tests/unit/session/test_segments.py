"""Continuous speech in segments: nothing lost, nothing twice, none too long."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import VadSettings
from agent.engine.contract import MAX_CLIP_SAMPLES
from agent.session.commands import Cut, Forget, Hear
from agent.session.listening import Turn
from agent.session.outbox import Outbox
from agent.session.segments import (
    LONG_SEGMENT_MS,
    LONGEST_SEGMENT_MS,
    PAUSE_MS,
    Segments,
    pause_that_ends_ms,
)
from tests.helpers.session import counting_ids

FRAME = 512


class Listener:
    """Hears segments, each as its clips; every sample is its own position."""

    def __init__(self) -> None:
        new_id = counting_ids()
        self.outbox = Outbox(new_id)
        self.segments = Segments(VadSettings(), self.outbox, new_id, self._begun, self._ended)
        self.begun = 0
        self.turns: list[Turn] = []
        self.clips: list[list[np.ndarray]] = []
        self._open: list[np.ndarray] = [np.empty(0, np.float32)]
        self.position = 0

    def hear(self, frames: int, probability: float) -> None:
        for _ in range(frames):
            samples = np.arange(self.position, self.position + FRAME, dtype=np.float32)
            self.position += FRAME
            now = self.position / 16_000
            self.segments.receive(samples, np.array([probability], np.float32), now, now)
            self._carry_out()

    def flush(self) -> None:
        self.segments.flush(self.position / 16_000)
        self._carry_out()

    def _begun(self) -> None:
        self.begun += 1

    def _ended(self, turn: Turn) -> None:
        self._carry_out()
        self.turns.append(turn)
        self.clips.append(self._open)
        self._open = [np.empty(0, np.float32)]

    def _carry_out(self) -> None:
        for output in self.outbox.take():
            match output:
                case Hear(samples=samples):
                    self._open[-1] = np.concatenate([self._open[-1], samples])
                case Cut(keep_samples=keep):
                    self._open[-1:] = [self._open[-1][:keep], self._open[-1][keep:]]
                case Forget():
                    self._open = [np.empty(0, np.float32)]
                case _:
                    raise AssertionError(output)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 400), st.sampled_from([0.0, 1.0])), max_size=12))
def test_speech_is_in_one_segment_each_and_in_order(parts: list[tuple[int, float]]) -> None:
    listener = Listener()
    spoken: list[tuple[int, int]] = []
    for frames, probability in parts:
        if probability and frames >= 2:  # 64 ms: a sound shorter than that is no speech
            spoken.append((listener.position, listener.position + frames * FRAME))
        listener.hear(frames, probability)
    listener.flush()
    heard = [np.concatenate(clips) for clips in listener.clips]
    for samples in heard:
        assert np.array_equal(samples, np.arange(samples[0], samples[0] + samples.size))
    ends = [(samples[0], samples[-1] + 1) for samples in heard]
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ends))
    everything = set(np.concatenate(heard).astype(int)) if heard else set()
    for start, end in spoken:
        assert everything.issuperset(range(start, end))
    assert all(0 < clip.size < MAX_CLIP_SAMPLES for clips in listener.clips for clip in clips)
    assert [turn.start_sample for turn in listener.turns] == [start for start, _ in ends]
    assert listener.begun >= len(listener.turns)


def test_a_pause_ends_a_segment_and_a_shorter_one_a_long_segment() -> None:
    listener = Listener()
    listener.hear(60, 1.0)
    listener.hear(8, 0.0)  # 256 ms
    assert not listener.turns
    listener.hear(60, 1.0)
    listener.hear(13, 0.0)  # 416 ms
    assert len(listener.turns) == 1
    listener.hear(700, 1.0)  # 22.4 s
    listener.hear(5, 0.0)  # 160 ms
    assert len(listener.turns) == 2


def test_speech_without_any_pause_is_cut_into_clips() -> None:
    listener = Listener()
    listener.hear(40 * 31, 1.0)
    listener.flush()
    assert [turn.clips for turn in listener.turns] == [2]
    assert listener.turns[0].reason == "committed"


@pytest.mark.parametrize(
    ("segment_ms", "pause_ms"),
    [(0, PAUSE_MS), (LONG_SEGMENT_MS, PAUSE_MS), (19_000, 216), (LONGEST_SEGMENT_MS, 32)],
)
def test_the_pause_shrinks_with_the_length(segment_ms: int, pause_ms: int) -> None:
    assert pause_that_ends_ms(segment_ms) == pause_ms


def test_the_pause_never_vanishes() -> None:
    assert pause_that_ends_ms(60_000) == 32
