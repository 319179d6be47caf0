"""Wire audio <-> float32: 16-bit PCM and G.711, and levels.

Inside the program audio is float32, mono, 16 kHz, in [-1, 1]; this module converts the
encodings only and knows nothing of rates but their names.

Source: ITU-T Recommendation G.711 (11/88).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.errors import InvalidEvent

Samples: TypeAlias = NDArray[np.float32]
"""float32[T], mono, in [-1, 1]; 16 kHz unless the name says otherwise."""

SAMPLE_RATE_HZ = 16_000
"""The rate of all audio inside the program, and of every session's sample clock."""

SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000

SILENCE_DBFS = -120.0
"""What `level_dbfs` gives for digital silence: below one step of 16-bit PCM (-90 dBFS)."""

_FULL_SCALE = 32_768.0
_BYTES_PER_PCM16_SAMPLE = 2

# G.711 mu-law (table 2a): 14-bit linear, 33 added before the segment is taken, inverted bits.
_MU_BIAS = 33
_MU_CLIP = 8_158
# G.711 A-law (table 1a): 13-bit linear, even bits inverted.
_A_CLIP = 4_095
_A_EVEN_BITS = 0x55


class Encoding(StrEnum):
    """How one sample is written on the wire."""

    PCM16 = "pcm16"  # signed, little-endian
    PCMU = "pcmu"  # G.711 mu-law
    PCMA = "pcma"  # G.711 A-law


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Mono audio as it comes over the wire.

    Attributes:
        encoding: How one sample is written.
        rate_hz: Samples a second: 8000, 16000, 24000 or 48000.
    """

    encoding: Encoding
    rate_hz: int

    @property
    def bytes_per_sample(self) -> int:
        """Two for 16-bit PCM, one for G.711."""
        return _BYTES_PER_PCM16_SAMPLE if self.encoding is Encoding.PCM16 else 1

    @property
    def bytes_per_second(self) -> int:
        """Bytes of one second of audio."""
        return self.bytes_per_sample * self.rate_hz

    def check_whole_samples(self, byte_count: int) -> None:
        """Refuse a message that ends in the middle of a sample.

        Raises:
            InvalidEvent: `byte_count` is no multiple of `bytes_per_sample`.
        """
        if byte_count % self.bytes_per_sample:
            raise InvalidEvent(
                f"{byte_count} bytes of 16-bit PCM end in the middle of a sample: a message must"
                " hold whole samples of two bytes.",
                param="audio",
            )


def _mu_law_magnitudes() -> NDArray[np.int32]:
    """int32[256]: signed 14-bit linear value of every mu-law code."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 1) + _MU_BIAS) << ((code >> 4) & 0x07)) - _MU_BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int32)


def _a_law_magnitudes() -> NDArray[np.int32]:
    """int32[256]: signed 13-bit linear value of every A-law code."""
    code = np.arange(256, dtype=np.int32) ^ _A_EVEN_BITS
    segment = (code >> 4) & 0x07
    step = ((code & 0x0F) << 1) + 1
    magnitude = np.where(segment == 0, step, (step + 32) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int32)


_MU_LINEAR_14_BIT = _mu_law_magnitudes()
_A_LINEAR_13_BIT = _a_law_magnitudes()
_DECODE_G711: dict[Encoding, Samples] = {
    Encoding.PCMU: (_MU_LINEAR_14_BIT / 8_192.0).astype(np.float32),
    Encoding.PCMA: (_A_LINEAR_13_BIT / 4_096.0).astype(np.float32),
}


def decode(data: bytes | memoryview, encoding: Encoding) -> Samples:
    """Wire bytes to float32[T] at the rate they came in.

    Raises:
        InvalidEvent: An odd number of bytes of 16-bit PCM.
    """
    if encoding is Encoding.PCM16:
        if len(data) % _BYTES_PER_PCM16_SAMPLE:
            AudioFormat(encoding, 16_000).check_whole_samples(len(data))
        return np.frombuffer(data, dtype="<i2") * np.float32(1 / _FULL_SCALE)
    return _DECODE_G711[encoding][np.frombuffer(data, dtype=np.uint8)]


def encode(samples: Samples, encoding: Encoding) -> bytes:
    """float32[T] to wire bytes, at the same rate; values outside [-1, 1] are clipped."""
    if encoding is Encoding.PCM16:
        return encode_pcm16(samples)
    return _encode_mu_law(samples) if encoding is Encoding.PCMU else _encode_a_law(samples)


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """float32[…] in [-1, 1] to int16[…]; rounds, clips, keeps the shape."""
    scaled = np.rint(samples * np.float32(_FULL_SCALE))
    steps: NDArray[np.int16] = np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    return steps


def encode_pcm16(samples: Samples) -> bytes:
    """float32[T] to 16-bit little-endian PCM; values outside [-1, 1] are clipped."""
    return to_int16(samples).astype("<i2", copy=False).tobytes()


def _encode_mu_law(samples: Samples) -> bytes:
    """The nearest mu-law code of every sample (G.711 table 2a)."""
    linear = np.rint(samples * np.float32(8_192.0)).astype(np.int32)
    magnitude = np.minimum(np.abs(linear), _MU_CLIP) + _MU_BIAS
    # The segment is the position of the highest bit: 33…8191 lie in bits 5…12.
    segment = np.frexp(magnitude)[1] - 6
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F)
    code = np.where(linear < 0, code | 0x80, code)
    return bytes((~code & 0xFF).astype(np.uint8))


def _encode_a_law(samples: Samples) -> bytes:
    """The A-law code whose interval holds each sample (G.711 table 1a)."""
    linear = np.floor(samples * np.float32(4_096.0)).astype(np.int32)
    magnitude = np.minimum(np.where(linear < 0, ~linear, linear), _A_CLIP)
    segment = np.maximum(np.frexp(np.maximum(magnitude, 1))[1] - 5, 0)
    code = (segment << 4) | ((magnitude >> np.maximum(segment, 1)) & 0x0F)
    code = np.where(linear < 0, code, code | 0x80)
    return bytes((code ^ _A_EVEN_BITS).astype(np.uint8))


def level_dbfs(samples: Samples) -> float:
    """Root mean square of float32[T] in dB below full scale; a full-scale square wave is 0.

    Never below `SILENCE_DBFS`, which no samples at all give too.
    """
    if samples.size == 0:
        return SILENCE_DBFS
    power = float(np.dot(samples, samples)) / samples.size
    return max(SILENCE_DBFS, 10.0 * float(np.log10(power))) if power > 0.0 else SILENCE_DBFS
