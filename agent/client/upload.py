"""Samples of any rate to the bytes of a session's input format."""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from agent.audio.pcm import AudioFormat, Encoding, Samples, encode

PCM16_24K = AudioFormat(Encoding.PCM16, 24_000)
"""The protocol's own format, and the default."""

_WIRE_TYPES = {
    Encoding.PCM16: "audio/pcm",
    Encoding.PCMU: "audio/pcmu",
    Encoding.PCMA: "audio/pcma",
}


def wire_format(audio_format: AudioFormat) -> dict[str, object]:
    """The protocol's `audio.input.format` object."""
    kind = _WIRE_TYPES[audio_format.encoding]
    if audio_format.encoding is Encoding.PCM16:
        return {"type": kind, "rate": audio_format.rate_hz}
    return {"type": kind}


def as_samples(audio: NDArray[Any]) -> Samples:
    """Mono float or int16 samples as float32[T] in [-1, 1].

    Raises:
        ValueError: Another type, or more than one channel.
    """
    if audio.ndim != 1:
        raise ValueError(f"audio must be mono, of shape (samples,), not {audio.shape}")
    if audio.dtype == np.int16:
        return audio.astype(np.float32) / np.float32(32_768.0)
    if np.issubdtype(audio.dtype, np.floating):
        return audio.astype(np.float32, copy=False)
    raise ValueError(f"audio must be float in [-1, 1] or int16, not {audio.dtype}")


class AudioEncoder:
    """Codes a stream of samples; keeps the resampler's state between calls.

    Resampling holds back the last few milliseconds until more samples come.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format = audio_format
        self._resampler: soxr.ResampleStream | None = None
        self._rate_hz: int = audio_format.rate_hz

    def encode(self, audio: NDArray[Any], rate_hz: int | None = None) -> bytes:
        """The bytes of `audio` at `rate_hz` (None: the format's own rate).

        Raises:
            ValueError: The samples are not mono, not numbers, or the rate is not positive.
        """
        samples = as_samples(audio)
        rate = self._format.rate_hz if rate_hz is None else rate_hz
        if rate != self._rate_hz:
            self._change_rate(rate)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        return encode(samples, self._format.encoding)

    def _change_rate(self, rate_hz: int) -> None:
        if rate_hz <= 0:
            raise ValueError(f"rate_hz must be positive, not {rate_hz}")
        out_hz = self._format.rate_hz
        same = rate_hz == out_hz
        self._resampler = None if same else soxr.ResampleStream(rate_hz, out_hz, 1, "float32")
        self._rate_hz = rate_hz
