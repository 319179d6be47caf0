from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.intake import AudioIntake
from agent.audio.pcm import AudioFormat, Encoding, decode, encode
from agent.errors import InvalidEvent

FORMATS = [
    AudioFormat(Encoding.PCM16, 24_000),
    AudioFormat(Encoding.PCM16, 16_000),
    AudioFormat(Encoding.PCM16, 48_000),
    AudioFormat(Encoding.PCMU, 8_000),
    AudioFormat(Encoding.PCMA, 8_000),
]


@pytest.mark.parametrize("audio_format", FORMATS, ids=lambda f: f"{f.encoding}-{f.rate_hz}")
@given(sizes=st.lists(st.integers(0, 1_500), min_size=1, max_size=8))
def test_whole_frames_and_the_flush_are_the_resampled_input(
    audio_format: AudioFormat, sizes: list[int]
) -> None:
    audio = np.random.default_rng(1).uniform(-0.9, 0.9, sum(sizes)).astype(np.float32)
    data = encode(audio, audio_format.encoding)
    intake = AudioIntake(audio_format)
    out = [np.zeros(0, np.float32)]
    start = 0
    for size in sizes:
        end = start + size * audio_format.bytes_per_sample
        frames = intake.push(memoryview(data)[start:end])
        start = end
        assert frames.size % FRAME_SAMPLES == 0
        out.append(frames)
    out.append(intake.flush())
    joined = np.concatenate(out)

    assert joined.size == round(audio.size * 16_000 / audio_format.rate_hz)
    assert intake.position_sample == joined.size
    assert intake.received_s == pytest.approx(audio.size / audio_format.rate_hz)
    heard = decode(data, audio_format.encoding)
    if audio_format.rate_hz != 16_000:
        heard = soxr.resample(heard, audio_format.rate_hz, 16_000)
    shared = min(heard.size, joined.size)
    assert abs(heard.size - joined.size) <= 1
    np.testing.assert_allclose(joined[:shared], heard[:shared], atol=1e-4)


def test_half_a_sample_is_refused_and_nothing_is_taken() -> None:
    intake = AudioIntake(AudioFormat(Encoding.PCM16, 24_000))
    with pytest.raises(InvalidEvent, match="whole samples"):
        intake.push(b"\0" * 4_801)
    assert intake.received_s == 0
    assert intake.flush().size == 0
    assert intake.push(b"\0" * 9_600).size % FRAME_SAMPLES == 0
    assert intake.received_s == 0.2


def test_more_may_follow_a_flush() -> None:
    intake = AudioIntake(AudioFormat(Encoding.PCMU, 8_000))
    second = encode(np.full(8_000, 0.25, np.float32), Encoding.PCMU)
    first_s = intake.push(second).size + intake.flush().size
    again = np.concatenate([intake.push(second), intake.flush()])
    assert first_s == again.size == 16_000
    np.testing.assert_allclose(again[500:-500], decode(second, Encoding.PCMU)[0], atol=1e-3)
