"""What tests of any engine do with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.engine.branches import BranchDone
from agent.engine.contract import Branch
from agent.engine.items import Item, Role, Text
from agent.engine.supervisor import EngineSupervisor


@asynccontextmanager
async def started(engine: EngineSupervisor, patience_s: float) -> AsyncIterator[EngineSupervisor]:
    """The engine, ready; all that is done with it is over within `patience_s`."""
    try:
        async with asyncio.timeout(patience_s):
            await engine.start(lambda *_: None)
            yield engine
    finally:
        await engine.stop()


def user(item_id: str, text: str) -> Item:
    """What somebody typed."""
    return Item(item_id, Role.USER, (Text(text),))


async def read(branch: Branch) -> tuple[str, BranchDone]:
    """All of a branch: its text, and its last piece."""
    text = ""
    async for piece in branch:
        if isinstance(piece, BranchDone):
            return text, piece
        text += piece.text
    raise AssertionError("a branch ended without BranchDone")
