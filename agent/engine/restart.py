"""When to start a crashed engine again. Pure: time is an argument."""

from __future__ import annotations

from collections import deque

from agent.config import EngineProcessSettings

_FIRST_DELAY_S = 0.5


class RestartPolicy:
    """At once after a first crash, then more and more slowly.

    Attributes:
        has_given_up: Whether there were so many crashes lately that it is not worth waiting.
    """

    def __init__(self, settings: EngineProcessSettings) -> None:
        self._settings = settings
        self._crashes_s: deque[float] = deque()
        self.has_given_up = False

    def crashed(self, now_s: float) -> float:
        """Note a crash; returns how many seconds to wait before the next start."""
        settings = self._settings
        self._crashes_s.append(now_s)
        while self._crashes_s[0] <= now_s - settings.crash_window_s:
            self._crashes_s.popleft()
        self.has_given_up = len(self._crashes_s) >= settings.max_crashes
        if self.has_given_up:
            return settings.retry_s
        earlier = len(self._crashes_s) - 1
        if earlier == 0:
            return 0.0
        return min(_FIRST_DELAY_S * 2.0 ** (earlier - 1), settings.retry_s)
