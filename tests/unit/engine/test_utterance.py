from __future__ import annotations

import numpy as np
import pytest

from agent.engine.contract import MAX_CLIP_SAMPLES
from agent.engine.utterance import Utterance
from agent.errors import ClipTooLong


def ramp(first: int, count: int) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.float32)


def test_pieces_are_one_clip_until_it_is_cut() -> None:
    utterance = Utterance()
    utterance.hear(ramp(0, 5))
    utterance.hear(ramp(5, 5))
    closed = utterance.cut(7)
    utterance.hear(ramp(10, 2))
    assert closed.samples.tolist() == ramp(0, 7).tolist()
    assert [clip.samples.tolist() for clip in utterance.clips] == [
        ramp(0, 7).tolist(),
        ramp(7, 5).tolist(),
    ]
    assert utterance.samples == 12


def test_cutting_at_the_end_leaves_no_open_clip() -> None:
    utterance = Utterance()
    utterance.hear(ramp(0, 5))
    utterance.cut(5)
    assert utterance.open_clip is None
    assert len(utterance.clips) == 1


@pytest.mark.parametrize("keep", [-1, 0, 6])
def test_a_cut_outside_the_open_clip_changes_nothing(keep: int) -> None:
    utterance = Utterance()
    utterance.hear(ramp(0, 5))
    with pytest.raises(ValueError, match=f"cannot keep {keep} of 5"):
        utterance.cut(keep)
    assert [clip.samples.size for clip in utterance.clips] == [5]
    with pytest.raises(ValueError, match="of 0 samples"):
        Utterance().cut(1)


def test_a_clip_stays_below_thirty_seconds() -> None:
    utterance = Utterance()
    utterance.hear(np.zeros(MAX_CLIP_SAMPLES - 1, np.float32))
    with pytest.raises(ClipTooLong, match=str(MAX_CLIP_SAMPLES)):
        utterance.hear(np.zeros(1, np.float32))
    assert utterance.samples == MAX_CLIP_SAMPLES - 1
    utterance.cut(1)
    utterance.hear(np.zeros(1, np.float32))
    assert utterance.samples == MAX_CLIP_SAMPLES


def test_what_was_heard_belongs_to_the_utterance() -> None:
    samples = ramp(0, 3)
    utterance = Utterance()
    utterance.hear(samples)
    samples[:] = 9
    assert utterance.clips[0].samples.tolist() == [0, 1, 2]


def test_nothing_heard_is_no_clip() -> None:
    utterance = Utterance()
    utterance.hear(np.empty(0, np.float32))
    assert utterance.clips == ()


def test_samples_in_a_pause_are_silence_until_it_ends() -> None:
    utterance = Utterance()
    utterance.hear(ramp(0, 5))
    utterance.pause()
    utterance.hear(ramp(5, 3))
    utterance.pause()  # it goes on
    assert utterance.open_clip is not None
    assert utterance.open_clip.silent_from == 5
    utterance.resume()
    assert utterance.open_clip.silent_from is None


@pytest.mark.parametrize(
    ("keep", "closed_silent_from", "rest_silent_from"),
    [(3, None, 2), (5, None, 0), (6, 5, 0)],
)
def test_a_cut_in_or_before_a_pause(
    keep: int, closed_silent_from: int | None, rest_silent_from: int
) -> None:
    utterance = Utterance()
    utterance.hear(ramp(0, 5))
    utterance.pause()
    utterance.hear(ramp(5, 3))
    closed = utterance.cut(keep)
    assert utterance.open_clip is not None
    assert closed.silent_from == closed_silent_from
    assert utterance.open_clip.silent_from == rest_silent_from
    assert utterance.open_clip.has_speech is (rest_silent_from != 0)


def test_a_clip_that_begins_in_a_pause_is_all_silence() -> None:
    utterance = Utterance()
    utterance.hear(ramp(0, 5))
    utterance.cut(5)
    utterance.pause()
    utterance.hear(ramp(5, 3))
    assert utterance.open_clip is not None
    assert not utterance.open_clip.has_speech
