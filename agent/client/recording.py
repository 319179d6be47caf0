"""Recordings as mono samples: WAV by the standard library, everything else by PyAV."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from agent.audio.pcm import Samples
from agent.errors import ConfigError

_FULL_SCALE_32_BIT = 2.0**31


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording in memory.

    Attributes:
        path: Where it came from.
        samples: float32[T], mono, in [-1, 1].
        rate_hz: Samples a second.
    """

    path: Path
    samples: Samples
    rate_hz: int

    @property
    def duration_s(self) -> float:
        """How long it is."""
        return self.samples.size / self.rate_hz

    def at_rate(self, rate_hz: int) -> Samples:
        """The samples at another rate, float32[T]."""
        if rate_hz == self.rate_hz:
            return self.samples
        resampled: Samples = soxr.resample(self.samples, self.rate_hz, rate_hz, "VHQ")
        return resampled


def read_recording(path: Path) -> Recording:
    """Read a file; channels are mixed to one.

    WAV with 8, 16, 24 or 32-bit integers needs nothing; floating-point WAV and every other
    format (FLAC, MP3, Ogg, MP4 …) needs the package `av`, which the extra `small` brings.

    Raises:
        ConfigError: The file is missing, empty or in a format that cannot be read here.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    try:
        recording = _read_wav(path)
    except (wave.Error, EOFError):
        recording = _read_with_av(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if recording.samples.size == 0:
        raise ConfigError(f"{path}: the recording is empty")
    return recording


def _read_wav(path: Path) -> Recording:
    with wave.open(str(path), "rb") as file:
        width, channels, rate_hz = file.getsampwidth(), file.getnchannels(), file.getframerate()
        data = file.readframes(file.getnframes())
    frame_bytes = width * channels
    whole = data[: len(data) // frame_bytes * frame_bytes]  # a cut-off file ends anywhere
    interleaved = _integers(whole, width)
    return Recording(path, _mix(interleaved.reshape(-1, channels)), rate_hz)


def _integers(data: bytes, width: int) -> Samples:
    """Little-endian PCM of `width` bytes a sample to float32 in [-1, 1]."""
    if width == 1:  # the only unsigned one
        return (np.frombuffer(data, dtype=np.uint8).astype(np.float32) - 128.0) / 128.0
    # Put the bytes of each sample at the top of 32 bits: the sign comes out right by itself.
    padded = np.zeros((len(data) // width, 4), dtype=np.uint8)
    padded[:, 4 - width :] = np.frombuffer(data, dtype=np.uint8).reshape(-1, width)
    scaled = padded.view("<i4").ravel() / _FULL_SCALE_32_BIT
    return scaled.astype(np.float32)


def _read_with_av(path: Path) -> Recording:
    try:
        import av  # noqa: PLC0415  # optional
    except ImportError as error:
        raise ConfigError(
            f"{path}: only integer WAV can be read without the package av; "
            "get it with: pip install av"
        ) from error
    pieces = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ConfigError(f"{path}: there is no sound in this file")
            rate_hz = container.streams.audio[0].rate
            to_float = av.AudioResampler(format="fltp")
            for frame in container.decode(audio=0):
                pieces += [part.to_ndarray() for part in to_float.resample(frame)]
    except av.FFmpegError as error:
        raise ConfigError(f"{path}: this is no recording that can be read: {error}") from error
    planes = np.concatenate(pieces, axis=1) if pieces else np.zeros((1, 0), np.float32)
    return Recording(path, _mix(planes.T.astype(np.float32)), rate_hz)


def _mix(frames: Samples) -> Samples:
    """float32[T, channels] to float32[T]."""
    mono: Samples = np.ascontiguousarray(frames.mean(axis=1), dtype=np.float32)
    return mono
