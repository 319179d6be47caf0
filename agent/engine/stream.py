"""A branch whose pieces are pushed by whoever decodes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from agent.engine.branches import BranchDone, BranchPiece, TextDelta
from agent.engine.contract import Branch
from agent.errors import EngineError


class BranchStream(Branch):
    """Holds pieces until they are read; all methods belong to one event loop.

    Attributes:
        text: All text pushed so far.
        ended: Whether the last piece, or the error, was pushed. Later ones are dropped.
    """

    def __init__(self) -> None:
        self.text = ""
        self.ended = False
        self._pieces: asyncio.Queue[BranchPiece | EngineError] = asyncio.Queue()
        self._on_cancel: Callable[[], None] | None = None

    def when_cancelled(self, act: Callable[[], None]) -> None:
        """Have `act` called by every `cancel()` while the branch has not ended."""
        self._on_cancel = act

    def push(self, piece: BranchPiece) -> None:
        """Add a piece; a `BranchDone` is the last."""
        if self.ended:
            return
        if isinstance(piece, TextDelta):
            self.text += piece.text
        self.ended = isinstance(piece, BranchDone)
        self._pieces.put_nowait(piece)

    def fail(self, error: EngineError) -> None:
        """End with an error, raised from the iterator."""
        if not self.ended:
            self.ended = True
            self._pieces.put_nowait(error)

    def cancel(self) -> None:
        """Stop decoding; harmless when already done."""
        if not self.ended and self._on_cancel is not None:
            self._on_cancel()

    async def __aiter__(self) -> AsyncIterator[BranchPiece]:
        """The pieces as they come; one consumer, once."""
        while True:
            piece = await self._pieces.get()
            if isinstance(piece, EngineError):
                raise piece
            yield piece
            if isinstance(piece, BranchDone):
                return
