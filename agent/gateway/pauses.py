"""Has the pauses of one session judged, the present one only: by their sound, or by the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from agent.config import Settings, TurnScorerName
from agent.engine.branches import BranchDone, BranchKind, BranchRequest
from agent.engine.contract import Branch, Conversation, EngineInfo
from agent.errors import ConfigError, EngineError
from agent.gateway.services import Services
from agent.session.outputs import DropScore, ScoreTurn
from agent.turns.hub import TurnHub

log = structlog.get_logger(__name__)

Judge = Callable[[ScoreTurn], "asyncio.Task[float | None]"]
"""Begins to judge a pause; gives the probability that the speaker has finished, or None: nobody
could say. Cancelling drops what was begun."""


class PauseScores:
    """Carries out `ScoreTurn` and `DropScore`.

    Args:
        judge: None when nobody can judge.
        deliver: Takes the pause's number and the probability that the speaker has finished.
    """

    def __init__(self, judge: Judge | None, deliver: Callable[[int, float], None]) -> None:
        self._judge = judge
        self._deliver = deliver
        self._tasks: tuple[asyncio.Task[float | None], asyncio.Task[None]] | None = None

    def execute(self, command: ScoreTurn | DropScore) -> None:
        """Judge this pause, or none; an earlier one that is not judged yet is over."""
        self.close()
        if self._judge is not None and isinstance(command, ScoreTurn):
            judging = self._judge(command)
            self._tasks = judging, asyncio.create_task(self._pass_on(command.number, judging))

    def close(self) -> None:
        """Nobody waits any more."""
        for task in self._tasks or ():
            task.cancel()
        self._tasks = None

    async def _pass_on(self, number: int, judging: asyncio.Task[float | None]) -> None:
        probability = await judging
        if probability is not None:
            self._deliver(number, probability)


def pause_judge(services: Services, conversation: Conversation) -> Judge | None:
    """Who judges the pauses of one session; None where the waits are fixed."""
    if services.settings.turns.scorer is TurnScorerName.MODEL:
        return ModelJudge(services, conversation)
    if services.turns is not None:
        return SoundJudge(services.turns)
    return None


class SoundJudge:
    """Judges by the end of the turn's sound.

    Args:
        hub: Of all sessions.
    """

    def __init__(self, hub: TurnHub) -> None:
        self._hub = hub

    def __call__(self, command: ScoreTurn) -> asyncio.Task[float | None]:
        """See `Judge`."""
        return asyncio.create_task(self._hub.score(command.samples))


class ModelJudge:
    """Asks the model that hears the conversation, in a branch of the open utterance.

    Args:
        services: What all sessions share.
        conversation: The session's.
    """

    def __init__(self, services: Services, conversation: Conversation) -> None:
        self._services = services
        self._conversation = conversation
        self._metrics = services.metrics

    def __call__(self, command: ScoreTurn) -> asyncio.Task[float | None]:
        """See `Judge`. The branch starts at once: what is heard from now on is not in it."""
        del command  # the engine has heard it
        if self._services.engine_is_behind:
            self._metrics.turn_scores.labels("skipped").inc()
            return asyncio.create_task(_nobody())
        try:
            branch = self._conversation.branch(BranchRequest(BranchKind.TURN_END))
        except EngineError as error:
            self._fail(error)
            return asyncio.create_task(_nobody())
        judging = asyncio.create_task(self._read(branch))
        judging.add_done_callback(lambda _: branch.cancel())
        return judging

    async def _read(self, branch: Branch) -> float | None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async for piece in branch:
                if isinstance(piece, BranchDone) and piece.probability is not None:
                    self._metrics.turn_scores.labels("made").inc()
                    self._metrics.turn_score_s.observe(loop.time() - began_s)
                    return piece.probability
        except EngineError as error:
            self._fail(error)
        return None

    def _fail(self, error: EngineError) -> None:
        log.warning("a pause could not be judged", code=error.code, reason=str(error))
        self._metrics.turn_scores.labels("failed").inc()


async def _nobody() -> float | None:
    """The fixed wait counts."""
    return None


def check_turn_scorer(settings: Settings, engine: EngineInfo) -> None:
    """Refuse a scorer that the engine cannot be.

    Raises:
        ConfigError: The model is to judge pauses, and this engine has none that could.
    """
    if settings.turns.scorer is TurnScorerName.MODEL and not engine.judges_turn_ends:
        raise ConfigError(
            f"turns.scorer: `model` asks the model whether a speaker has finished, and the engine "
            f"`{engine.name}` cannot say; use `smart-turn` or `none`, or the engine `gemma`"
        )
