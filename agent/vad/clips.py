"""Where a clip is cut: the pause it takes, and the quietest place when there is no pause.

A clip is what the model hears in one piece; it must stay under 30 s. Long speech is cut
where it disturbs least, and the samples after the cut begin the next clip.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.pcm import SAMPLE_RATE_HZ, Samples

PAUSE_AT_SOFT_LIMIT_SAMPLES = SAMPLE_RATE_HZ // 2
"""500 ms, a pause between sentences; the default silence limit would end the turn there."""

_SMOOTHING_FRAMES = 5
"""160 ms, about a syllable: one quiet frame in the middle of a vowel does not win."""


def pause_needed_samples(clip_samples: int, soft_limit: int, hard_limit: int) -> int:
    """How long a pause must be to cut a clip of `clip_samples`, all in samples.

    Falls on a straight line from 500 ms at the soft limit to one frame at the hard limit.
    A clip up to the soft limit is never cut: its own length (plus one) is more than any
    pause in it.
    """
    if clip_samples <= soft_limit:
        return clip_samples + 1
    if clip_samples >= hard_limit:  # limits a hair apart are the same sample
        return FRAME_SAMPLES
    left = (hard_limit - clip_samples) / (hard_limit - soft_limit)
    return FRAME_SAMPLES + int(left * (PAUSE_AT_SOFT_LIMIT_SAMPLES - FRAME_SAMPLES))


class QuietPlace:
    """Remembers how loud the last samples that were heard were; finds the quietest place.

    It does not know where clips begin: the window is at most half of the longest clip, so
    when a clip has reached its limit the window lies inside it. Energies are kept in
    blocks of at least one frame, so that tiny pieces cost no memory.
    """

    def __init__(self, window_samples: int) -> None:
        self._window_samples = window_samples
        self._blocks: deque[tuple[int, float]] = deque()  # (samples, energy), oldest first
        self._held_samples = 0

    def look_back(self, window_samples: int) -> None:
        """Look no further back than `window_samples` from now on."""
        self._window_samples = window_samples
        self._drop_old_blocks()

    def add(self, samples: Samples) -> None:
        """float32[n], n > 0, were heard."""
        count = samples.shape[0]
        energy = float(np.dot(samples, samples))
        blocks = self._blocks
        self._held_samples += count
        if blocks and blocks[-1][0] < FRAME_SAMPLES:
            last_count, last_energy = blocks.pop()
            blocks.append((last_count + count, last_energy + energy))
        else:
            blocks.append((count, energy))
        self._drop_old_blocks()

    def _drop_old_blocks(self) -> None:
        blocks = self._blocks
        while blocks and self._held_samples - blocks[0][0] >= self._window_samples:
            self._held_samples -= blocks.popleft()[0]

    def find(self) -> int:
        """The middle of the quietest block, as samples before the last that was heard.

        Loudness is the mean power over `_SMOOTHING_FRAMES` blocks around each; of equally
        quiet ones the latest wins, so that the next clip begins short. Something must
        have been added.
        """
        counts = np.array([count for count, _ in self._blocks], dtype=np.int64)
        energies = np.array([energy for _, energy in self._blocks])
        around = np.ones(_SMOOTHING_FRAMES)
        middle = slice(_SMOOTHING_FRAMES // 2, _SMOOTHING_FRAMES // 2 + counts.size)
        power = np.convolve(energies, around)[middle] / np.convolve(counts, around)[middle]
        quietest = counts.size - 1 - int(np.argmin(power[::-1]))
        return int(counts[quietest + 1 :].sum()) + int(counts[quietest]) // 2
