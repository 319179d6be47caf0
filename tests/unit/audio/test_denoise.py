"""A steady noise made quieter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.denoise import loudness_over_noise_db, reduce_noise

RATE_HZ = 16_000


def noise(count: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(count)).astype(np.float32)


def tone(count: int, level: float = 0.5, hz: float = 1_000.0) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(count) / RATE_HZ)).astype(np.float32)


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def in_db(ratio: float) -> float:
    return 20 * np.log10(ratio)


@given(st.integers(1, 6_000), st.integers(512, 4_000))
def test_without_noise_nothing_changes(count, noise_count):
    samples = noise(count, seed=count)
    same = reduce_noise(samples, np.zeros(noise_count, np.float32))
    assert same.dtype == np.float32
    assert same.shape == samples.shape
    np.testing.assert_allclose(same, samples, atol=1e-6)


@pytest.mark.parametrize("level", [1e-4, 0.01, 0.3])
def test_noise_alone_gets_quieter_by_twelve_db_and_no_more(level):
    heard = noise(48_000, level)
    quiet = reduce_noise(heard, noise(3_000, level, seed=1))
    assert -12.1 < in_db(rms(quiet) / rms(heard)) < -8


def test_speech_stands_out_more_than_before():
    voice = np.concatenate([np.zeros(16_000), tone(16_000), np.zeros(16_000)]).astype(np.float32)
    heard = voice + noise(48_000, 0.05)
    quiet = reduce_noise(heard, noise(3_000, 0.05, seed=1))
    assert abs(in_db(rms(quiet[20_000:28_000]) / rms(heard[20_000:28_000]))) < 0.5
    assert in_db(rms(quiet[2_000:14_000]) / rms(heard[2_000:14_000])) < -8


@given(st.integers(512, 4_000), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_it_never_makes_anything_louder_or_not_a_number(count, level, noise_level):
    samples = noise(count, level)
    quiet = reduce_noise(samples, noise(2_000, noise_level, seed=2))
    assert np.isfinite(quiet).all()
    assert rms(quiet) <= rms(samples) * 1.001 + 1e-9


def test_how_far_speech_is_above_a_noise():
    heard = np.concatenate([noise(8_000, 0.01), noise(8_000, 0.1)])
    assert loudness_over_noise_db(heard, noise(2_000, 0.01)) == pytest.approx(20, abs=1)
    assert loudness_over_noise_db(np.zeros(4_000, np.float32), np.zeros(512, np.float32)) == 0.0
    assert loudness_over_noise_db(heard, np.zeros(512, np.float32)) > 80
