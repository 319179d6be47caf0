"""Sizes of batches, and the numbers that all parts of the training agree on."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.tiny_gemma.voices import RATE_HZ

TOKEN_SAMPLES = 640  # one soft token for 40 ms
IGNORE = -100
BLANK = 10  # class of a soft token at which no digit ends
MAX_ORDINAL = 15
MAX_PIECES = 12
RESERVE_TOKENS = 110  # for the longest prompt and reply beside a turn's speech
LEAST_ROOM_SAMPLES = RATE_HZ  # a clip without room for any soft token must not arise


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of one kind of batch; all fixed, so that a step can be a CUDA graph.

    Attributes:
        rows: Conversations.
        clips: Slots for clips, over all rows.
        seconds: Longest clip (exclusive).
        tokens: Length of a row.
        turns: Most user turns of a conversation.
    """

    rows: int
    clips: int
    seconds: float
    tokens: int
    turns: int

    @property
    def samples(self) -> int:
        """Length of a clip's slot."""
        return int(self.seconds * RATE_HZ)

    @property
    def frames(self) -> int:
        """Mel frames of a clip's slot."""
        return self.samples // 160

    @property
    def soft_tokens(self) -> int:
        """Soft tokens of a clip's slot."""
        return -(-self.frames // 4)


SHAPES = {
    "one": Shape(rows=96, clips=96, seconds=3.2, tokens=224, turns=1),
    "some": Shape(rows=48, clips=108, seconds=6.4, tokens=384, turns=5),
    "long": Shape(rows=8, clips=24, seconds=30.0, tokens=1024, turns=5),
}
