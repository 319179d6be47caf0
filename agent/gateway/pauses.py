"""Has the pauses of one session judged, the present one only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.session.items import ScoreTurn
from agent.turns.hub import TurnHub


class PauseScores:
    """Carries out `ScoreTurn`.

    Args:
        hub: Of all sessions; None when nobody can judge.
        deliver: Takes the pause's number and the probability that the speaker has finished.
    """

    def __init__(self, hub: TurnHub | None, deliver: Callable[[int, float], None]) -> None:
        self._hub = hub
        self._deliver = deliver
        self._task: asyncio.Task[None] | None = None

    def start(self, command: ScoreTurn) -> None:
        """Judge this pause; an earlier one that is not judged yet is over."""
        self.close()
        if self._hub is not None:
            self._task = asyncio.create_task(self._score(self._hub, command))

    def close(self) -> None:
        """Nobody waits any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _score(self, hub: TurnHub, command: ScoreTurn) -> None:
        probability = await hub.score(command.samples)
        if probability is not None:
            self._deliver(command.number, probability)
