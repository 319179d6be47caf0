"""Whisper's features: the extractor of transformers is the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from agent.audio.whisper_mel import whisper_log_mel

WINDOW_SAMPLES = 128_000


def sound(samples: int, seed: int) -> np.ndarray:
    """float32[samples]: a gliding buzz that comes and goes, some noise, an offset."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(samples) / 16_000
    buzz = sum(np.sin(2 * np.pi * (90 + 7 * time_s) * n * time_s) / n for n in range(1, 40))
    swell = np.maximum(0.0, np.sin(2 * np.pi * 0.7 * time_s))
    return (0.1 * buzz * swell + rng.normal(0.02, 1e-4, samples)).astype(np.float32)


@pytest.mark.parametrize("heard_samples", [0, 3_000, 60_000, WINDOW_SAMPLES])
def test_features_are_those_of_the_extractor(heard_samples: int) -> None:
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor(chunk_length=8)
    silence = np.zeros(WINDOW_SAMPLES - heard_samples, np.float32)
    samples = np.concatenate([silence, sound(heard_samples, seed=heard_samples)])
    before = samples.copy()

    features = whisper_log_mel(samples)

    expected = extractor(
        samples, sampling_rate=16_000, return_tensors="np", do_normalize=True
    ).input_features[0]
    assert features.dtype == np.float32
    assert features.shape == expected.shape == (80, 800)
    # The extractor works in float64; probabilities differ by less than 1e-4 for it.
    np.testing.assert_allclose(features, expected, atol=1e-4)
    assert np.array_equal(samples, before)


def test_loudness_does_not_matter() -> None:
    samples = sound(WINDOW_SAMPLES, seed=1)
    quieter = samples * np.float32(0.25)
    np.testing.assert_allclose(whisper_log_mel(quieter), whisper_log_mel(samples), atol=1e-3)


def test_a_tone_is_in_the_band_around_its_pitch() -> None:
    time_s = np.arange(WINDOW_SAMPLES) / 16_000
    loudest = [
        int(whisper_log_mel(np.sin(2 * np.pi * hz * time_s).astype(np.float32))[:, 400].argmax())
        for hz in (250, 1_000, 4_000)
    ]
    # 80 bands, 45.2 mels in all: the centre of band k is at (k + 1) * 45.2 / 81.
    assert loudest == pytest.approx([5.7, 25.9, 62.0], abs=1.0)
