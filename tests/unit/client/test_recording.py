from __future__ import annotations

import builtins
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.client.recording import Recording, read_recording
from agent.errors import ConfigError

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(1600) / 16_000)


def write_wav(
    path: Path, data: bytes, *, width: int, channels: int = 1, rate: int = 16_000
) -> None:
    with wave.open(str(path), "wb") as file:
        file.setsampwidth(width)
        file.setnchannels(channels)
        file.setframerate(rate)
        file.writeframes(data)


def as_integers(samples: np.ndarray, width: int) -> bytes:
    if width == 1:
        return np.rint(samples * 127 + 128).astype(np.uint8).tobytes()
    scaled = np.rint(samples * (2.0 ** (8 * width - 1) - 1)).astype("<i4")
    return scaled.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()


@pytest.mark.parametrize(("width", "tolerance"), [(1, 1e-2), (2, 1e-4), (3, 1e-6), (4, 1e-6)])
def test_integers_of_every_width(tmp_path: Path, width: int, tolerance: float) -> None:
    path = tmp_path / "tone.wav"
    write_wav(path, as_integers(TONE, width), width=width)
    recording = read_recording(path)
    assert recording.rate_hz == 16_000
    assert recording.samples.dtype == np.float32
    assert recording.duration_s == pytest.approx(0.1)
    np.testing.assert_allclose(recording.samples, TONE, atol=tolerance)


def test_channels_are_mixed(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    stereo = np.stack([TONE, -0.5 * TONE], axis=1)
    write_wav(path, as_integers(stereo.ravel(), 2), width=2, channels=2)
    np.testing.assert_allclose(read_recording(path).samples, 0.25 * TONE, atol=1e-4)


def test_a_file_cut_off_in_the_middle_of_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    write_wav(path, as_integers(TONE, 2), width=2)
    path.write_bytes(path.read_bytes()[:-1])
    assert read_recording(path).samples.size == 1599


@pytest.mark.parametrize("kind", ["flac", "ogg", "float.wav", "mp3"])
def test_other_formats_are_read_by_av(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"tone.{kind}"
    codec = {"flac": "flac", "ogg": "libopus", "float.wav": "pcm_f32le", "mp3": "libmp3lame"}[kind]
    rate = 48_000
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    encode_with_av(path, codec, np.stack([tone, tone]).astype(np.float32), rate)
    recording = read_recording(path)
    assert recording.rate_hz == rate
    assert recording.duration_s == pytest.approx(1.0, abs=0.1)
    middle = recording.samples[rate // 4 : rate // 2]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_another_rate(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "x", TONE.astype(np.float32), 16_000)
    assert recording.at_rate(16_000) is recording.samples
    assert recording.at_rate(24_000).size == 2400


def test_without_av_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def without_av(name: str, *rest: Any, **options: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_av)
    path = tmp_path / "talk.ogg"
    path.write_bytes(b"OggS")
    with pytest.raises(ConfigError, match="pip install av"):
        read_recording(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "no recording"), (b"hello, this is text", "no recording"), (None, "no such file")],
)
def test_what_is_no_recording(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "file.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=complaint):
        read_recording(path)


def test_an_empty_recording(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    write_wav(path, b"", width=2)
    with pytest.raises(ConfigError, match="is empty"):
        read_recording(path)


def test_a_video_without_sound(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "silent.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        for packet in stream.encode(av.VideoFrame(16, 16, "yuv420p")):
            container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    with pytest.raises(ConfigError, match="no sound"):
        read_recording(path)


def encode_with_av(path: Path, codec: str, planes: np.ndarray, rate: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
