"""How late the event loop runs what is due: the health of everything that shares it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Histogram

PERIOD_S = 0.01
STALL_S = 0.01
"""A loop that is so late has stood still; a busy one is rarely."""

LONGEST_GAP_S = 1.0
"""A gap longer than this (the machine slept) counts once, not once a period."""


class LoopWatch:
    """Watches one event loop while there is a session; an idle server sleeps."""

    def __init__(self) -> None:
        self._sessions = 0
        self._needed = asyncio.Event()
        self._woke_s: float | None = None
        self._late_s = float("-inf")

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Watch while one session, or more, is in here."""
        self._sessions += 1
        self._needed.set()
        try:
            yield
        finally:
            self._sessions -= 1
            if not self._sessions:
                self._needed.clear()

    async def run(self, histogram: Histogram) -> None:
        """Measure while that is needed, until cancelled.

        Wakes are due at a fixed rate, and every one that was due is counted with its own delay:
        a loop blocked for 100 ms delays ten of them by 100, 90, 80, … ms, not one.

        Args:
            histogram: Takes each delay, in seconds.
        """
        while True:
            await self._needed.wait()
            await self._watch(histogram)

    async def _watch(self, histogram: Histogram) -> None:
        due_s = time.monotonic() + PERIOD_S
        while self._needed.is_set():
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self._woke_s = now_s = time.monotonic()
            histogram.observe(max(0.0, now_s - due_s))
            if now_s - due_s > STALL_S:
                self._late_s = now_s
            due_s += PERIOD_S
            if now_s - due_s > LONGEST_GAP_S:
                due_s = now_s + PERIOD_S
        self._woke_s = None

    def stalled_within(self, period_s: float) -> bool:
        """Whether the loop stood still for longer than `STALL_S` in that time, or just did.

        What has come in from outside meanwhile is older than it seems. False while not watched.
        """
        now_s = time.monotonic()
        if self._woke_s is None:
            return False
        return now_s - self._late_s < period_s or now_s - self._woke_s > PERIOD_S + STALL_S
