from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.pcm import Samples
from agent.vad.clips import QuietPlace, pause_needed_samples

SOFT = 20 * 16_000
HARD = 472_000


def frame(level: float, count: int = 512) -> Samples:
    return np.full(count, level, np.float32)


def test_the_pause_needed_shrinks_from_half_a_second_to_a_frame() -> None:
    needed = [pause_needed_samples(clip, SOFT, HARD) for clip in range(SOFT + 1, HARD + 1, 500)]
    assert needed[0] == 8_000 - 1  # rounded down
    assert needed == sorted(needed, reverse=True)
    assert pause_needed_samples((SOFT + HARD) // 2, SOFT, HARD) == (8_000 + 512) // 2
    assert pause_needed_samples(HARD, SOFT, HARD) == 512
    assert pause_needed_samples(HARD + 1, HARD, HARD) == 512
    assert pause_needed_samples(HARD + 9_999, SOFT, HARD) == 512


def test_a_clip_up_to_the_soft_limit_is_cut_at_no_pause() -> None:
    for clip in (512, SOFT // 2, SOFT):
        assert pause_needed_samples(clip, SOFT, HARD) > clip


def test_finds_the_quietest_place() -> None:
    place = QuietPlace(100 * 512)
    for index in range(60):
        place.add(frame(0.01 if 20 <= index < 25 else 0.3))
    # The middle of frame 22, the only one whose neighbours are all quiet.
    assert place.find() == (60 - 23) * 512 + 256


def test_one_quiet_frame_does_not_beat_a_quiet_syllable() -> None:
    place = QuietPlace(100 * 512)
    for index in range(60):
        place.add(frame(0.0 if index == 50 else 0.1 if 10 <= index < 15 else 0.3))
    assert place.find() == (60 - 13) * 512 + 256


def test_of_equally_quiet_places_the_latest_wins() -> None:
    place = QuietPlace(100 * 512)
    for _ in range(60):
        place.add(frame(0.0))
    assert place.find() == 256


def test_looks_no_further_back_than_its_window() -> None:
    place = QuietPlace(10 * 512)
    for index in range(60):
        place.add(frame(0.0 if index < 45 else 0.3 - index / 1_000))
    assert place.find() <= 10 * 512


def test_a_shorter_window_holds_at_once() -> None:
    place = QuietPlace(100 * 512)
    for index in range(30):
        place.add(frame(0.0 if index < 20 else 0.3))
    place.look_back(7 * 512)
    assert place.find() <= 7 * 512


@given(
    sizes=st.lists(st.integers(1, 512), min_size=1, max_size=300),
    window=st.integers(2_000, 20_000),
)
def test_the_place_is_inside_the_window(sizes: list[int], window: int) -> None:
    place = QuietPlace(window)
    rng = np.random.default_rng(0)
    heard = 0
    for size in sizes:
        place.add(rng.uniform(-1, 1, size).astype(np.float32))
        heard += size
        rest = place.find()
        assert 0 <= rest < heard
        # Blocks of less than two frames: the one at the border may reach beyond it.
        assert rest < window + 1_024
