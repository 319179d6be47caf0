"""One session's audio: wire bytes in, whole 16 kHz frames out."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from agent.audio.framing import Framer
from agent.audio.pcm import SAMPLE_RATE_HZ, AudioFormat, Samples, decode
from agent.audio.resample import Resampler


class Intake(Protocol):
    """Wire audio in, whole 16 kHz frames out: what a session's audio goes through first."""

    @property
    def position_sample(self) -> int:
        """16 kHz samples given out so far."""

    @property
    def bytes_per_second(self) -> int:
        """Bytes of one second of audio, about."""

    def check(self, data: bytes, *, in_event: bool) -> None:
        """Look at one message, that came in an event or by itself, before it is pushed.

        Raises:
            InvalidEvent: It cannot be taken.
        """

    def seconds(self, data: bytes) -> float:
        """Seconds of audio in some messages."""

    def share_bytes(self, data: memoryview, samples: int) -> int:
        """How many leading bytes hold about so many 16 kHz samples; where it may be split."""

    def push(self, data: bytes | memoryview) -> Samples:
        """Take wire bytes; give the frames that are whole now, float32[n * 512], n >= 0."""

    def flush(self) -> Samples:
        """Give all that is still inside, float32[n] of any length; more may follow."""


class AudioIntake:
    """Decodes, resamples and frames what one client sends.

    Not for use from several threads at once. The arrays it gives out are never written
    to again.

    Attributes:
        format: What comes over the wire.
    """

    def __init__(self, format: AudioFormat) -> None:  # noqa: A002  # the protocol's own word
        self.format = format
        self._resampler = Resampler(format.rate_hz)
        self._framer = Framer()
        self._received_bytes = 0

    @property
    def received_s(self) -> float:
        """Seconds of audio taken so far."""
        return self._received_bytes / self.format.bytes_per_second

    @property
    def position_sample(self) -> int:
        """16 kHz samples given out so far."""
        return self._framer.position_sample

    @property
    def bytes_per_second(self) -> int:
        """Bytes of one second of audio."""
        return self.format.bytes_per_second

    def check(self, data: bytes, *, in_event: bool) -> None:
        """See `Intake.check`: a message holds whole samples, however it came."""
        del in_event
        self.format.check_whole_samples(len(data))

    def seconds(self, data: bytes) -> float:
        """See `Intake.seconds`."""
        return len(data) / self.format.bytes_per_second

    def share_bytes(self, data: memoryview, samples: int) -> int:
        """See `Intake.share_bytes`."""
        del data
        return samples * self.format.rate_hz // SAMPLE_RATE_HZ * self.format.bytes_per_sample

    def push(self, data: bytes | memoryview) -> Samples:
        """Take wire bytes; give the frames that are whole now, float32[n * 512], n >= 0.

        Raises:
            InvalidEvent: The bytes end in the middle of a sample; nothing was taken.
        """
        samples = decode(data, self.format.encoding)
        self._received_bytes += len(data)
        return self._framer.push(self._resampler.push(samples))

    def flush(self) -> Samples:
        """Give all that is still inside, float32[n] of any length; more may follow."""
        frames = self._framer.push(self._resampler.flush())
        rest = self._framer.take_rest()
        return np.concatenate((frames, rest)) if frames.size else rest
