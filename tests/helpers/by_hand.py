"""A microphone and a clock for a sans-I/O session of any type."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from agent.audio.framing import FRAME_SAMPLES
from agent.session.base import DrivenSession
from agent.session.outputs import Close

FRAME_MS = 32


class ByHand(ABC):
    """Moves the clock on, with audio or without; subclasses are the client and the engine.

    Attributes:
        session: What is driven.
        now: The clock; audio moves it on in real time.
        closed: The end, once it has come.
    """

    session: DrivenSession

    def __init__(self) -> None:
        self.now = 100.0
        self.closed: Close | None = None

    def audio(
        self, duration_ms: int, speech: float, *, waited_s: float = 0.0
    ) -> list[dict[str, Any]]:
        """Send audio in real time, whole frames, all with the same speech probability.

        It came `waited_s` before the session gets it.
        """
        sent = []
        for _ in range(max(1, round(duration_ms / FRAME_MS))):
            self.now += FRAME_MS / 1000
            frame = np.full(FRAME_SAMPLES, 0.1 * speech, np.float32)
            scores = np.array([speech], np.float32)
            self.session.receive_audio(frame, scores, self.now, self.now - waited_s)
            sent += self._drain()
        return sent

    def wait(self, duration_s: float) -> list[dict[str, Any]]:
        """Time passes and no audio comes; what is due is done."""
        end = self.now + duration_s
        sent = []
        while (due := self.session.next_deadline) is not None and due <= end:
            self.now = max(self.now, due)
            self.session.tick(self.now)
            sent += self._drain()
            if self.closed:
                break
        self.now = end
        return sent

    @abstractmethod
    def _drain(self) -> list[dict[str, Any]]:
        """Carry out what the session wants done; the events it sent."""
