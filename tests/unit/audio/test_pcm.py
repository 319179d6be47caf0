from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agent.audio.pcm import (
    SILENCE_DBFS,
    AudioFormat,
    Encoding,
    Samples,
    decode,
    encode,
    encode_pcm16,
    level_dbfs,
)
from agent.errors import InvalidEvent

G711 = [(Encoding.PCMU, "pcm_mulaw"), (Encoding.PCMA, "pcm_alaw")]
ALL_CODES = bytes(range(256))

samples = arrays(np.float32, st.integers(0, 200), elements=st.floats(-1, 1, width=32))


def decoded_by_ffmpeg(codec: str, data: bytes) -> Samples:
    decoder = av.CodecContext.create(codec, "r")
    decoder.sample_rate = 8_000
    decoder.layout = "mono"
    frames = decoder.decode(av.Packet(data))
    return np.concatenate([frame.to_ndarray().ravel() for frame in frames]) / np.float32(32_768)


@pytest.mark.parametrize(("encoding", "codec"), G711)
def test_every_g711_code_means_what_ffmpeg_says(encoding: Encoding, codec: str) -> None:
    ours = decode(ALL_CODES, encoding)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, decoded_by_ffmpeg(codec, ALL_CODES))


@pytest.mark.parametrize(("encoding", "codec"), G711)
def test_g711_codes_survive_a_round_trip(encoding: Encoding, codec: str) -> None:
    del codec
    again = decode(encode(decode(ALL_CODES, encoding), encoding), encoding)
    # Compared as values: mu-law has two codes for zero.
    np.testing.assert_array_equal(again, decode(ALL_CODES, encoding))


@pytest.mark.parametrize("encoding", [Encoding.PCMU, Encoding.PCMA])
def test_g711_is_as_exact_as_its_steps_allow(encoding: Encoding) -> None:
    values = (np.arange(-32_768, 32_768, 7) / 32_768).astype(np.float32)
    error = np.abs(decode(encode(values, encoding), encoding) - values)
    # 16 steps a segment, each segment twice as wide as the one below: half a step at most.
    assert np.all(error <= np.abs(values) / 32 + 1 / 4_096)


@pytest.mark.parametrize("encoding", list(Encoding))
@given(audio=samples)
def test_any_encoding_keeps_length_and_stays_in_range(encoding: Encoding, audio: Samples) -> None:
    data = encode(audio, encoding)
    assert len(data) == audio.size * AudioFormat(encoding, 8_000).bytes_per_sample
    again = decode(data, encoding)
    assert again.size == audio.size
    assert np.all(np.abs(again) <= 1.0)


@given(data=st.binary(max_size=400).filter(lambda data: len(data) % 2 == 0))
def test_pcm16_is_kept_bit_by_bit(data: bytes) -> None:
    assert encode_pcm16(decode(data, Encoding.PCM16)) == data


def test_pcm16_is_little_endian_and_symmetric_around_zero() -> None:
    data = bytes([0x00, 0x80, 0xFF, 0x7F, 0x01, 0x00])
    np.testing.assert_array_equal(
        decode(data, Encoding.PCM16), np.array([-1.0, 32_767 / 32_768, 1 / 32_768], np.float32)
    )


def test_what_is_too_loud_is_clipped() -> None:
    loud = np.array([-2.0, 2.0, 1.0], np.float32)
    assert encode_pcm16(loud) == np.array([-32_768, 32_767, 32_767], "<i2").tobytes()
    for encoding in (Encoding.PCMU, Encoding.PCMA):
        low, high, _ = decode(encode(loud, encoding), encoding)
        assert low < -0.97
        assert high > 0.97


def test_half_a_sample_is_refused_by_name() -> None:
    with pytest.raises(InvalidEvent, match="3 bytes of 16-bit PCM end in the middle of a sample"):
        decode(b"\0\0\0", Encoding.PCM16)
    with pytest.raises(InvalidEvent, match="whole samples"):
        AudioFormat(Encoding.PCM16, 24_000).check_whole_samples(1)
    AudioFormat(Encoding.PCMU, 8_000).check_whole_samples(1)


@pytest.mark.parametrize(
    ("audio_format", "bytes_per_second"),
    [
        (AudioFormat(Encoding.PCM16, 24_000), 48_000),
        (AudioFormat(Encoding.PCM16, 16_000), 32_000),
        (AudioFormat(Encoding.PCMA, 8_000), 8_000),
    ],
)
def test_bytes_per_second(audio_format: AudioFormat, bytes_per_second: int) -> None:
    assert audio_format.bytes_per_second == bytes_per_second


def test_levels() -> None:
    assert level_dbfs(np.ones(100, np.float32)) == pytest.approx(0.0)
    assert level_dbfs(np.full(100, 0.1, np.float32)) == pytest.approx(-20.0, abs=1e-4)
    sine = np.sin(np.linspace(0, 20 * np.pi, 10_000, dtype=np.float32))
    assert level_dbfs(sine) == pytest.approx(-3.01, abs=0.01)
    assert level_dbfs(np.zeros(100, np.float32)) == SILENCE_DBFS
    assert level_dbfs(np.zeros(0, np.float32)) == SILENCE_DBFS
    assert level_dbfs(np.full(10, 1e-20, np.float32)) == SILENCE_DBFS
