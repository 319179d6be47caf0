"""The turn that ended last: what comes soon after it is mostly the rest of it.

A turn may be ended too early, most of all in noise: a scorer takes a word's last syllable for
noise, or a sentence's last word comes late. The word opens a turn of its own more easily then,
and a syllable that is no quieter than the noise is kept for the next turn.
"""

from __future__ import annotations

import numpy as np

from agent.audio.pcm import Samples
from agent.vad.limits import SegmentLimits


class LastTurn:
    """Where the last turn ended, and how loud the speech in it was."""

    def __init__(self) -> None:
        self._end: int | None = None
        self._speech_end = 0
        self._speech_power = np.inf
        # Of the speech that is being heard.
        self._energy = 0.0
        self._samples = 0

    def follow(self) -> None:
        """Something is being heard; it may become the next turn."""
        self._energy = 0.0
        self._samples = 0

    def speak(self, samples: Samples) -> None:
        """float32[n], n > 0, of it are speech."""
        self._energy += float(np.dot(samples, samples))
        self._samples += samples.shape[0]

    def end(self, position: int, speech_end: int) -> None:
        """It was a turn, which ended at `position` and its speech at `speech_end`."""
        self._end = position
        self._speech_end = speech_end
        self._speech_power = self._energy / self._samples if self._samples else np.inf

    def forget(self) -> None:
        """There was none."""
        self._end = None

    def is_recent(self, position: int, limits: SegmentLimits) -> bool:
        """Whether its speech ended so short a time before `position` that it may go on."""
        return self._end is not None and position - self._speech_end < limits.recent

    def may_go_on(self, samples: Samples, position: int, limits: SegmentLimits) -> bool:
        """Whether a frame at `position` may be the rest of it by its loudness alone.

        Args:
            samples: float32[n], n > 0.
            position: Where they begin.
            limits: How soon, and how loud.
        """
        if self._end is None or position - self._end >= limits.post_roll:
            return False
        power = float(np.dot(samples, samples)) / samples.shape[0]
        return bool(power >= self._speech_power * limits.post_roll_power)
