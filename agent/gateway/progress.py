"""Signs of life for people while something slow is loaded."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from agent.engine.contract import ProgressCallback

PROGRESS_EVERY_S = 2.0

Say = Callable[[str], None]
"""Shows a line to people."""


def say_on_stdout(line: str) -> None:
    """Print a line for people, if anybody reads them; logs go to stderr."""
    with suppress(BrokenPipeError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


@asynccontextmanager
async def progress_lines(doing: str, say: Say) -> AsyncIterator[ProgressCallback]:
    """While the block runs say what it is doing, every two seconds; nothing if it is quick.

    Gives a function to report progress to, which may be called from another thread.
    """
    done: float | None = None

    def report(what: str, fraction: float | None) -> None:
        nonlocal doing, done
        doing, done = what, fraction

    async def repeat() -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            share = "" if done is None else f"{done:.0%}, "
            say(f"{doing} … {share}{loop.time() - began_s:.0f} s")

    repeating = asyncio.create_task(repeat())
    try:
        yield report
    finally:
        repeating.cancel()
