from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.framing import FRAME_SAMPLES, Framer


@given(
    sizes=st.lists(st.integers(0, 2_000), max_size=20),
    rest_after=st.sets(st.integers(0, 19)),
)
def test_frames_and_rests_joined_are_the_input(sizes: list[int], rest_after: set[int]) -> None:
    audio = np.arange(sum(sizes), dtype=np.float32)
    framer = Framer()
    out = [np.zeros(0, np.float32)]
    start = 0
    for index, size in enumerate(sizes):
        frames = framer.push(audio[start : start + size])
        start += size
        assert frames.size % FRAME_SAMPLES == 0
        assert framer.waiting_samples < FRAME_SAMPLES
        out.append(frames)
        if index in rest_after:
            rest = framer.take_rest()
            assert rest.size < FRAME_SAMPLES
            assert framer.waiting_samples == 0
            out.append(rest)
        assert framer.position_sample == sum(piece.size for piece in out)
    out.append(framer.take_rest())
    np.testing.assert_array_equal(np.concatenate(out), audio)
    assert framer.position_sample == audio.size


def test_what_was_given_out_is_never_written_again() -> None:
    framer = Framer()
    first = framer.push(np.full(700, 1, np.float32))
    before = first.copy()
    framer.push(np.full(700, 2, np.float32))
    framer.take_rest()
    framer.push(np.full(700, 3, np.float32))
    np.testing.assert_array_equal(first, before)
