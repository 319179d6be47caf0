"""Any chunks of samples -> whole frames, and the session's sample clock."""

from __future__ import annotations

import numpy as np

from agent.audio.pcm import Samples

FRAME_SAMPLES = 512
"""One VAD frame: 32 ms at 16 kHz, what Silero scores at a time."""

_NOTHING: Samples = np.zeros(0, dtype=np.float32)


class Framer:
    """Cuts one session's 16 kHz audio into whole frames.

    The arrays it gives out are never written to again; they may share memory with what
    was pushed.
    """

    def __init__(self) -> None:
        self._rest = _NOTHING
        self._position = 0

    @property
    def position_sample(self) -> int:
        """The sample clock: samples given out so far, frames and rests alike."""
        return self._position

    @property
    def waiting_samples(self) -> int:
        """Samples that do not fill a frame yet."""
        return len(self._rest)

    def push(self, samples: Samples) -> Samples:
        """Take float32[T]; give all whole frames, float32[n * 512], n >= 0."""
        if self._rest.size:
            samples = np.concatenate((self._rest, samples))
        whole = samples.size // FRAME_SAMPLES * FRAME_SAMPLES
        self._rest = samples[whole:]
        self._position += whole
        return samples[:whole]

    def take_rest(self) -> Samples:
        """Give what does not fill a frame, float32[n], n < 512; the clock goes on."""
        rest, self._rest = self._rest, _NOTHING
        self._position += rest.size
        return rest
