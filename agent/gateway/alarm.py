"""One alarm that goes off by the nearest deadline it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls back once, at the earliest of the times it was set to; then it can be set again.

    Args:
        loop: The running loop; times are its own.
        ring: Called when it goes off.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        # Kept beside the handle: for a time that has passed, uvloop gives one without `when`.
        self._due_at = 0.0
        self._handle: asyncio.Handle | None = None

    def set(self, at: float) -> None:
        """Go off at `at`, in seconds, or sooner if it was set to an earlier time."""
        if self._handle is not None:
            if self._due_at <= at:
                return
            self._handle.cancel()
        self._due_at = at
        self._handle = self._loop.call_at(at, self._go_off)

    def cancel(self) -> None:
        """Do not go off."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _go_off(self) -> None:
        self._handle = None
        self._ring()
