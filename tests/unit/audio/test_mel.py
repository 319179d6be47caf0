"""Streaming log-mel against transformers' own feature extractor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audio.mel import MelParameters, StreamingMel
from agent.errors import ClipTooLong, Unsupported
from tests.helpers.noise import noise

transformers = pytest.importorskip("transformers")
Extractor = transformers.Gemma4AudioFeatureExtractor


def offline(extractor, samples: np.ndarray) -> np.ndarray:
    """The extractor's valid frames; checks that they come first."""
    features = extractor([samples], return_tensors="np")
    mask = features["input_features_mask"][0]
    count = int(mask.sum())
    assert mask[:count].all()
    return features["input_features"][0][:count]


def streamed(parameters: MelParameters, samples: np.ndarray, sizes: list[int]) -> np.ndarray:
    mel = StreamingMel(parameters)
    out, at, turn = [np.zeros((0, parameters.bins), np.float32)], 0, 0
    while at < len(samples):
        size = sizes[turn % len(sizes)]
        out.append(mel.push(samples[at : at + size]))
        at, turn = at + size, turn + 1
    return np.concatenate(out)


VARIANTS = [
    {},
    {"preemphasis": 0.97},
    {"preemphasis": 0.97, "preemphasis_htk_flavor": False, "input_scale_factor": 2.0},
    {"per_bin_mean": list(range(128)), "per_bin_stddev": [2.0] * 128, "fft_overdrive": True},
    {"frame_length_ms": 32.0, "mel_floor": 1e-5, "max_frequency": 7600.0},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_equals_the_extractor_for_every_parameter(options):
    extractor = Extractor(**options)
    samples = noise(16_000)
    expected = offline(extractor, samples)
    actual = streamed(MelParameters.from_extractor(extractor), samples, [317, 5120])
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(1, 9000),
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=5).filter(lambda s: max(s) > 40),
    seed=st.integers(0, 5),
)
def test_any_pieces_give_the_offline_frames(length, sizes, seed):
    extractor = Extractor()
    parameters = MelParameters.from_extractor(extractor)
    samples = noise(length, seed)
    expected = offline(extractor, samples)
    actual = streamed(parameters, samples, sizes)
    assert actual.shape == expected.shape
    assert len(actual) == parameters.valid_frames(length)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("blocks", [1, 3, 8])
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_clips_at_the_edge_of_a_token(blocks, off):
    extractor = Extractor()
    parameters = MelParameters.from_extractor(extractor)
    samples = noise(640 * blocks + off)
    expected = offline(extractor, samples)
    actual = streamed(parameters, samples, [640])
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)
    assert len(actual) == (len(samples) - 1) // 160


def test_one_sample_of_lookahead():
    parameters = MelParameters.from_extractor(Extractor())
    mel = StreamingMel(parameters)
    assert len(mel.push(noise(5120))) == 31
    assert len(mel.push(noise(1))) == 1
    assert parameters.samples_for(32) == 5121


def test_thirty_seconds_is_a_wall_and_leaves_the_clip_usable():
    parameters = MelParameters.from_extractor(Extractor())
    mel = StreamingMel(parameters)
    mel.push(np.zeros(479_000, np.float32))
    with pytest.raises(ClipTooLong, match=r"30\.000 s"):
        mel.push(np.zeros(1000, np.float32))
    assert mel.samples == 479_000
    mel.push(np.zeros(999, np.float32))
    assert parameters.valid_frames(mel.samples) == 2999


def test_dither_is_refused():
    with pytest.raises(Unsupported, match="dither"):
        MelParameters.from_extractor(Extractor(dither=0.1))
