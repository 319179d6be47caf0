"""When a session has to end: the longest session and the longest silence of its client.

Idle means that nothing at all came, neither an event nor audio; a microphone that sends
silence is not idle.
"""

from __future__ import annotations

from agent.config import Limits
from agent.protocol import server_events
from agent.session.outbox import Outbox
from agent.session.outputs import Close


class Expiry:
    """Watches both limits; each is announced before it strikes.

    Args:
        limits: Where the limits are.
        outbox: Where they are announced.
        sends_timings: Whether the client knows that event; it is one of our extensions.
    """

    def __init__(self, limits: Limits, outbox: Outbox, *, sends_timings: bool) -> None:
        self._limits = limits
        self._outbox = outbox
        self._sends_timings = sends_timings
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

    def tick(self, now: float) -> Close | None:
        """Announce what will strike soon; the end, once, when a limit is met."""
        for name, end in self._ends().items():
            if name not in self._warned and now >= end - self._limits.expiry_warning_s:
                self._warned.add(name)
                if self._sends_timings:
                    remaining_s = max(0.0, end - now)
                    self._outbox.send(server_events.session_expiring(name, remaining_s))
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
