import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.pcm import AudioFormat, Encoding, decode
from agent.client.upload import PCM16_24K, AudioEncoder, as_samples, wire_format


@pytest.mark.parametrize(
    ("audio_format", "wire"),
    [
        (PCM16_24K, {"type": "audio/pcm", "rate": 24_000}),
        (AudioFormat(Encoding.PCM16, 16_000), {"type": "audio/pcm", "rate": 16_000}),
        (AudioFormat(Encoding.PCMU, 8_000), {"type": "audio/pcmu"}),
        (AudioFormat(Encoding.PCMA, 8_000), {"type": "audio/pcma"}),
    ],
)
def test_the_format_on_the_wire(audio_format: AudioFormat, wire: dict[str, object]) -> None:
    assert wire_format(audio_format) == wire


def test_int16_and_double_precision_become_float32() -> None:
    assert as_samples(np.array([-32_768, 16_384], dtype=np.int16)).tolist() == [-1.0, 0.5]
    assert as_samples(np.array([0.25])).dtype == np.float32


@given(pieces=st.lists(st.integers(0, 700), max_size=20))
def test_pieces_of_any_size_resample_to_the_same_stream(pieces: list[int]) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, sum(pieces)).astype(np.float32)
    encoder, whole = AudioEncoder(PCM16_24K), AudioEncoder(PCM16_24K)
    borders = np.cumsum([0, *pieces])
    joined = b"".join(
        encoder.encode(noise[start:end], 44_100) for start, end in itertools.pairwise(borders)
    )
    expected = decode(whole.encode(noise, 44_100), Encoding.PCM16)
    got = decode(joined, Encoding.PCM16)
    # The same stream, however much of its end the resampler still holds back.
    length = min(got.size, expected.size)
    assert abs(got.size - expected.size) < 24_000 * 0.1
    np.testing.assert_allclose(got[:length], expected[:length], atol=1e-3)


def test_going_back_to_the_own_rate_stops_resampling() -> None:
    encoder = AudioEncoder(PCM16_24K)
    encoder.encode(np.zeros(480, dtype=np.float32), 48_000)
    assert len(encoder.encode(np.zeros(480, dtype=np.float32))) == 960
