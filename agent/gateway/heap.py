"""Gives back to the system what the C library keeps of freed memory."""

from __future__ import annotations

import asyncio
import ctypes

PERIOD_S = 60.0


async def give_back_freed(period_s: float = PERIOD_S) -> None:
    """Have glibc return the free pages of its heaps now and then, until cancelled.

    It keeps them for what will be asked for next. What lies between pieces that live on never goes
    by itself, so the heap grows whenever a longer segment than any before fits into none of its
    holes: 10 MB in ten minutes of a long talk, of which nothing was in use (docs/LOG.md). It takes
    a few milliseconds, in a thread of its own. Other C libraries are left alone.

    Source: man 3 malloc_trim.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(period_s)
        await asyncio.to_thread(trim, 0)
