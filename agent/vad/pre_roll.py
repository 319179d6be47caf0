"""What begins a turn: the last samples of no turn, back to what may have been speech.

A scorer is late, and in noise it is unsure: a quiet beginning, a word after a pause or the
last syllable of a turn that was just ended score too low to be a turn. They are kept for the
next one, so that they are heard when somebody does speak.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from agent.audio.pcm import Samples
from agent.vad.limits import SegmentLimits

Piece: TypeAlias = tuple[Samples, bool]
"""float32[n], n > 0, and whether there may be speech in it."""


class PreRoll:
    """The samples since the last turn that the next one would begin with.

    At least `SegmentLimits.pre_roll` of them, and all since the first that may have been
    speech, padding before it included, within `SegmentLimits.reach_back`. More is kept only
    while there is such a sample: a microphone in a quiet room costs no memory.
    """

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._held_samples = 0
        # Counted from any zero: where the samples end, and where speech may have been.
        self._end = 0
        self._maybe_at: deque[int] = deque()

    def __len__(self) -> int:
        """How many samples."""
        return self._held_samples

    def add(self, piece: Piece, limits: SegmentLimits, run: int) -> None:
        """Keep a piece, which is not copied, and drop what is not needed any longer.

        Args:
            piece: The next samples.
            limits: How much is kept.
            run: Speech at the end, `piece` included: never dropped, not even when the
                settings have just shrunk.
        """
        samples, maybe = piece
        count = samples.shape[0]
        if maybe:
            self._maybe_at.append(self._end)
        self._pieces.append(piece)
        self._held_samples += count
        self._end += count
        while self._maybe_at and self._end - self._maybe_at[0] > limits.reach_back:
            self._maybe_at.popleft()
        keep = max(limits.pre_roll, run)
        if self._maybe_at:
            since = self._end - self._maybe_at[0] + limits.padding
            keep = max(keep, min(since, limits.reach_back))
        while self._held_samples - self._pieces[0][0].shape[0] >= keep:
            self._held_samples -= self._pieces.popleft()[0].shape[0]

    def take(self) -> list[Piece]:
        """Give out all of it, in order."""
        taken = list(self._pieces)
        self.clear()
        return taken

    def take_quiet(self, limits: SegmentLimits, run: int) -> Samples:
        """Give out the last of it before the speech at its end, as much as the padding.

        Args:
            limits: How much.
            run: Speech at the end, which stays: it may be the beginning of a turn.

        Returns:
            float32[T], maybe empty.
        """
        kept: list[Piece] = []
        while _total(kept) < run:
            kept.append(self._pieces.pop())
        taken: list[Piece] = []
        while self._pieces and _total(taken) < limits.pre_roll:
            taken.append(self._pieces.pop())
        self._pieces = deque(reversed(kept))
        self._held_samples = _total(kept)
        start = self._end - self._held_samples
        self._maybe_at = deque(at for at in self._maybe_at if at >= start)
        return joined(taken[::-1])

    def clear(self) -> None:
        """Forget all of it."""
        self._pieces.clear()
        self._maybe_at.clear()
        self._held_samples = 0


def joined(pieces: Sequence[Piece]) -> Samples:
    """The samples of all pieces: float32[T], maybe empty."""
    if not pieces:
        return np.zeros(0, np.float32)
    return np.concatenate([samples for samples, _ in pieces])


def _total(pieces: Sequence[Piece]) -> int:
    return sum(samples.shape[0] for samples, _ in pieces)
