"""What is freed between things that live on goes back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import os

import pytest

from agent.gateway.heap import give_back_freed
from scripts.memory_growth import rss_mb
from tests.helpers.patience import PATIENCE_S

HOLES_MB = 32
HOLE_BYTES = 64 * 1024  # glibc takes larger ones from the system one by one


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
async def test_free_memory_goes_back_though_things_live_on_around_it() -> None:
    count = HOLES_MB * 2**20 // HOLE_BYTES
    kept = [(bytearray(HOLE_BYTES), bytearray(1000)) for _ in range(count)]
    full_mb = rss_mb([os.getpid()])
    kept = [(bytearray(), little) for _, little in kept]
    giving = asyncio.create_task(give_back_freed(0.01))
    async with asyncio.timeout(PATIENCE_S):
        while rss_mb([os.getpid()]) > full_mb - HOLES_MB / 2:  # noqa: ASYNC110  # a number
            await asyncio.sleep(0.01)
    giving.cancel()
    assert len(kept) == count
