from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import example, given
from hypothesis import strategies as st

from agent.audio.pcm import Samples
from agent.audio.resample import QUALITY, Resampler

RATES = [8_000, 24_000, 48_000]


def noise(count: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, count).astype(np.float32)


def pieces(samples: Samples, sizes: list[int]) -> list[Samples]:
    """`samples` cut into pieces of these sizes, over and over."""
    cut = []
    start = index = 0
    while start < samples.size:
        size = sizes[index % len(sizes)]
        cut.append(samples[start : start + size])
        start += size
        index += 1
    return cut


@pytest.mark.parametrize("rate_hz", RATES)
@given(
    count=st.integers(1, 6_000),
    sizes=st.lists(st.integers(1, 2_500), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
@example(count=6_000, sizes=[960], seed=0)
@example(count=300, sizes=[1], seed=0)
@example(count=1, sizes=[1], seed=0)
def test_pieces_joined_equal_one_shot_resampling(
    rate_hz: int, count: int, sizes: list[int], seed: int
) -> None:
    audio = noise(count, seed)
    resampler = Resampler(rate_hz)
    ready = [resampler.push(piece) for piece in pieces(audio, sizes)]
    joined = np.concatenate([*ready, resampler.flush()])
    at_once = soxr.resample(audio, rate_hz, 16_000, quality=QUALITY)

    assert joined.dtype == np.float32
    assert joined.size == round(count * 16_000 / rate_hz)
    shared = min(joined.size, at_once.size)
    assert abs(joined.size - at_once.size) <= 1
    np.testing.assert_allclose(joined[:shared], at_once[:shared], atol=1e-4)


@pytest.mark.parametrize("rate_hz", RATES)
@given(counts=st.lists(st.integers(0, 700), min_size=1, max_size=30))
def test_many_flushes_do_not_drift(rate_hz: int, counts: list[int]) -> None:
    resampler = Resampler(rate_hz)
    out = 0
    for count in counts:
        out += resampler.push(noise(count)).size + resampler.flush().size
    assert abs(out - sum(counts) * 16_000 / rate_hz) <= 1


def test_after_a_flush_it_starts_anew() -> None:
    audio = noise(5_000)
    used = Resampler(24_000)
    used.push(noise(3_000, seed=1))
    used.flush()
    fresh = Resampler(24_000)
    again = np.concatenate([used.push(audio), used.flush()])
    np.testing.assert_array_equal(again, np.concatenate([fresh.push(audio), fresh.flush()]))


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_tone_stays_where_it_is(rate_hz: int) -> None:
    """No delay: the tone that comes out has the phase of the one that went in."""
    tone = np.sin(2 * np.pi * 1_000 * np.arange(rate_hz) / rate_hz).astype(np.float32)
    resampler = Resampler(rate_hz)
    out = np.concatenate([*(resampler.push(p) for p in pieces(tone, [777])), resampler.flush()])
    expected = np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(out[1_000:-1_000], expected[1_000:-1_000], atol=1e-3)


@pytest.mark.parametrize("rate_hz", [24_000, 48_000])
def test_holds_back_less_than_40_ms(rate_hz: int) -> None:
    resampler = Resampler(rate_hz)
    piece = noise(rate_hz * 40 // 1000)
    out = 0
    for count in range(1, 51):
        out += resampler.push(piece).size
        assert count * 640 - out < 640


def test_16_khz_passes_through_untouched() -> None:
    audio = noise(123)
    resampler = Resampler(16_000)
    assert resampler.push(audio) is audio
    assert resampler.flush().size == 0
