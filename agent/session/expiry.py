"""When a session has to end: the longest session and the longest silence of its client.

Idle means that nothing at all came, neither an event nor audio; a microphone that sends
silence is not idle.
"""

from __future__ import annotations

from agent.config import Limits
from agent.session.outputs import Close


class Expiry:
    """Watches both limits; each is announced before it strikes.

    Args:
        limits: Where the limits are.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._started_at = 0.0
        self._active_at = 0.0
        self._warned: set[str] = set()
        self._closing = False

    def start(self, now: float) -> None:
        """The session begins."""
        self._started_at = self._active_at = now

    def active(self, now: float) -> None:
        """Something came from the client."""
        self._active_at = now
        self._warned.discard("idle")

    @property
    def deadline(self) -> float | None:
        """The next time at which a warning or an end is due."""
        if self._closing:
            return None
        warning_s = self._limits.expiry_warning_s
        return min(
            end if name in self._warned else end - warning_s for name, end in self._ends().items()
        )

    def due_warnings(self, now: float) -> list[tuple[str, float]]:
        """Limits that will strike soon and were not announced: (name, seconds left)."""
        due = [
            (name, max(0.0, end - now))
            for name, end in self._ends().items()
            if name not in self._warned and now >= end - self._limits.expiry_warning_s
        ]
        self._warned.update(name for name, _ in due)
        return due

    def strike(self, now: float) -> Close | None:
        """The end, once, when a limit is met."""
        if self._closing:
            return None
        for name, end in self._ends().items():
            if now >= end:
                self._closing = True
                return Close(name, self._sentence(name))
        return None

    def _ends(self) -> dict[str, float]:
        return {
            "max_session": self._started_at + self._limits.max_session_s,
            "idle": self._active_at + self._limits.idle_timeout_s,
        }

    def _sentence(self, name: str) -> str:
        if name == "idle":
            return f"nothing was received for {self._limits.idle_timeout_s:.0f} s; connect again"
        return f"a session lasts at most {self._limits.max_session_s:.0f} s; connect again"
