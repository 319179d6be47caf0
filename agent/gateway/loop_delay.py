"""How late the event loop runs what is due: the health of everything that shares it."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import Histogram

PERIOD_S = 0.01
LONGEST_GAP_S = 1.0
"""A gap longer than this (the machine slept) counts once, not once a period."""


async def watch_loop_delay(histogram: Histogram) -> None:
    """Measure until cancelled.

    Wakes are due at a fixed rate, and every one that was due is counted with its own delay:
    a loop blocked for 100 ms delays ten of them by 100, 90, 80, … ms, not one.

    Args:
        histogram: Takes each delay, in seconds.
    """
    due_s = time.monotonic() + PERIOD_S
    while True:
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        now_s = time.monotonic()
        histogram.observe(max(0.0, now_s - due_s))
        due_s += PERIOD_S
        if now_s - due_s > LONGEST_GAP_S:
            due_s = now_s + PERIOD_S
