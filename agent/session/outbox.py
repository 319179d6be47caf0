"""What a session wants done, in order: events to send and commands to carry out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.session.commands import Command
from agent.session.outputs import Close, DropScore, Output, Report, ScoreTurn, Send

NewId = Callable[[str], str]
"""Makes a new unique id from a prefix: `item`, `resp`, `branch`, …"""


class Outbox:
    """Collects output until the driver takes it; every event gets its `event_id` here."""

    def __init__(self, new_id: NewId) -> None:
        self._new_id = new_id
        self._outputs: list[Output] = []

    def __bool__(self) -> bool:
        return bool(self._outputs)

    def send(self, event: dict[str, Any]) -> None:
        """Queue an event for the client."""
        self._outputs.append(Send({"event_id": self._new_id("event"), **event}))

    def put(self, output: Command | ScoreTurn | DropScore | Report | Close) -> None:
        """Queue a command for the engine, a report, or the end."""
        self._outputs.append(output)

    def take(self) -> list[Output]:
        """Everything queued since the last call, in order."""
        taken, self._outputs = self._outputs, []
        return taken
