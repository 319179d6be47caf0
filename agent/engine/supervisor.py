"""The gateway's engine: a process of its own that is watched, restarted and rebuilt.

`EngineSupervisor` keeps the contract over any engine that `agent.engine.process` can run.
While there is no process, or it is loading, everything may be called: it takes effect when
the engine is ready. When the process dies,

- answers that had given text fail with `EngineUnavailable`;
- answers asked for from then on wait for the restart, for a limited time;
- answers without text, transcripts and commits whose outcome is not known are made again, once;
- every conversation is built again from its mirror, its open utterance included.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from enum import StrEnum

import structlog

from agent.config import EngineProcessSettings
from agent.engine import wire
from agent.engine.child import EngineChild, EngineSpec
from agent.engine.contract import (
    Conversation,
    ConversationSettings,
    Engine,
    EngineHealth,
    EngineInfo,
    ProgressCallback,
)
from agent.engine.items import Item
from agent.engine.restart import RestartPolicy
from agent.engine.supervised import SupervisedConversation
from agent.errors import EngineError, EngineFailed, EngineUnavailable, LocalError

log = structlog.get_logger(__name__)

_PATIENCE_AT_FIRST = 15
"""So many times as long a process may give no sign of life until it is ready: it answers nothing
while it imports libraries and builds models, minutes from a slow disk or on a busy machine."""


class EngineState(StrEnum):
    """What the engine process is doing."""

    STARTING = "starting"  # for the first time, or not yet
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"  # it crashed too often; tried again from time to time
    STOPPED = "stopped"


class EngineSupervisor(Engine):
    """Runs an engine in a process of its own.

    Args:
        spec: The engine.
        settings: How its process is watched.

    Attributes:
        state: What the process is doing now.
        restarts: How many processes had to be replaced.
    """

    def __init__(self, spec: EngineSpec, settings: EngineProcessSettings) -> None:
        self.state = EngineState.STARTING
        self.restarts = 0
        self._spec = spec
        self._settings = settings
        self._policy = RestartPolicy(settings)
        self._conversations: dict[int, SupervisedConversation] = {}
        self._numbers = itertools.count(1)
        self._child: EngineChild | None = None
        self._beats_missed = 0
        self._running: asyncio.Task[None] | None = None

    @property
    def info(self) -> EngineInfo:
        """What the engine is; known before it is loaded."""
        return self._spec.info

    @property
    def health(self) -> EngineHealth:
        """How the process is now."""
        return EngineHealth(
            ready=self.state is EngineState.READY,
            available=self.state not in {EngineState.FAILED, EngineState.STOPPED},
            restarts=self.restarts,
            backlog_s=sum(one.backlog_s for one in self._conversations.values()),
        )

    @property
    def pid(self) -> int | None:
        """The engine process, when there is one."""
        return None if self._child is None else self._child.pid

    async def start(self, progress: ProgressCallback) -> None:
        """Start the process and wait until its engine is ready.

        Raises:
            EngineError: The engine cannot run here; the message says what is missing.
            ModelStoreError: A model cannot be fetched.
        """
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run(first, progress))
        self._running.add_done_callback(self._note_end)
        await asyncio.wait({self._running, first}, return_when=asyncio.FIRST_COMPLETED)
        if not first.done():
            await self._running
            raise EngineUnavailable("the engine was stopped while it was starting")

    def open(self, settings: ConversationSettings, history: Sequence[Item] = ()) -> Conversation:
        """See `Engine.open`.

        Raises:
            EngineUnavailable: The engine has failed or was stopped.
        """
        if self.state in {EngineState.FAILED, EngineState.STOPPED}:
            raise self._unavailable()
        number = next(self._numbers)

        def forget() -> None:
            self._conversations.pop(number, None)

        conversation = SupervisedConversation(
            number,
            settings,
            history,
            on_close=forget,
            ready_timeout_s=self._settings.ready_timeout_s,
        )
        self._conversations[number] = conversation
        if self.state is EngineState.READY and self._child is not None:
            conversation.attach(self._child.send)
        return conversation

    async def stop(self) -> None:
        """Let the process leave; it is killed if it does not, or if this is cancelled."""
        self.state = EngineState.STOPPED
        self._refuse_all()
        if self._running is None:
            return
        if self._child is not None:
            self._child.send(wire.Stop())
        else:
            self._running.cancel()
        try:
            await asyncio.wait({self._running}, timeout=self._settings.stop_grace_s)
        finally:
            if self._child is not None:
                self._child.kill()
            self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    # ------------------------------------------------------------ the process

    async def _run(self, first: asyncio.Future[None], progress: ProgressCallback) -> None:
        """Run one process after the other, until stopped or the first cannot start."""
        while True:
            try:
                await self._run_child(first, progress)
            except OSError:
                log.exception("no engine process can be started")
            if self.state is EngineState.STOPPED:
                return
            if not first.done():
                raise EngineUnavailable("the engine process ended while it was starting")
            delay_s = self._policy.crashed(asyncio.get_running_loop().time())
            self._note_crash(delay_s)
            await asyncio.sleep(delay_s)

    async def _run_child(self, first: asyncio.Future[None], progress: ProgressCallback) -> None:
        """Run one process until it is gone.

        Raises:
            LocalError: It says that it cannot start, and none has yet.
        """
        child = self._child = await EngineChild.spawn(self._spec)
        beating = asyncio.create_task(self._beat(child))
        try:
            async for report in child.reports():
                self._beats_missed = 0
                match report:
                    case wire.Progress(doing=doing, fraction=fraction):
                        if not first.done():
                            progress(doing, fraction)
                    case wire.CannotStart(error=error):
                        self._cannot_start(error, first)
                    case wire.Ready():
                        self._be_ready(child, first)
                    case _:
                        self._dispatch(report)
        finally:
            beating.cancel()
            self._child = None
            if self.state is EngineState.READY:
                self.state = EngineState.RESTARTING
            for conversation in tuple(self._conversations.values()):
                conversation.detach()
            # Its socket is closed: a process that is still there has nothing left to do.
            how = await child.end(self._settings.stop_grace_s)
            log.info("engine process ended", engine_pid=child.pid, how=how)

    def _cannot_start(self, error: LocalError, first: asyncio.Future[None]) -> None:
        if not first.done():
            raise error
        log.error("engine cannot be restarted", error=str(error))

    def _be_ready(self, child: EngineChild, first: asyncio.Future[None]) -> None:
        if self.state is EngineState.STOPPED:
            return
        self.state = EngineState.READY
        for conversation in tuple(self._conversations.values()):
            conversation.attach(child.send)
        log.info("engine ready", engine_pid=child.pid, conversations=len(self._conversations))
        if not first.done():
            first.set_result(None)

    def _dispatch(self, report: wire.Report | wire.Request) -> None:
        match report:
            case wire.Piece(conversation=number, branch=branch, piece=piece):
                if (conversation := self._conversations.get(number)) is not None:
                    conversation.receive(branch, piece)
            case wire.BranchFailed(conversation=number, branch=branch, error=error):
                if (conversation := self._conversations.get(number)) is not None:
                    conversation.receive(branch, error)
            case wire.CommitDone(conversation=number, serial=serial, outcome=outcome):
                if (conversation := self._conversations.get(number)) is not None:
                    conversation.settle(serial, outcome)
            case wire.ConversationFailed(conversation=number, error=error):
                log.error("engine gave up a conversation", error=str(error))
                if (conversation := self._conversations.get(number)) is not None:
                    conversation.refuse(error)

    async def _beat(self, child: EngineChild) -> None:
        """Kill a process that shows no sign of life for some beats."""
        self._beats_missed = 0
        while self._beats_missed < self._settings.heartbeats_missed * (
            1 if self.state is EngineState.READY else _PATIENCE_AT_FIRST
        ):
            child.send(wire.Ping())
            await asyncio.sleep(self._settings.heartbeat_interval_s)
            self._beats_missed += 1
        log.error("engine process hangs and is killed", engine_pid=child.pid)
        child.kill()

    def _note_crash(self, delay_s: float) -> None:
        self.restarts += 1
        if self._policy.has_given_up:
            self.state = EngineState.FAILED
            self._refuse_all()
            log.error("engine crashes again and again", restarts=self.restarts, retry_s=delay_s)
        else:
            self.state = EngineState.RESTARTING
            log.warning("engine crashed", restarts=self.restarts, restart_in_s=delay_s)

    def _note_end(self, running: asyncio.Task[None]) -> None:
        """Nothing runs any more: because of `stop`, a first start that failed, or a bug."""
        if running.cancelled() or (error := running.exception()) is None:
            return
        if not isinstance(error, LocalError):
            log.error("engine is not run any more", exc_info=error)
        self.state = EngineState.FAILED
        self._refuse_all()

    def _refuse_all(self) -> None:
        for conversation in tuple(self._conversations.values()):
            conversation.refuse(self._unavailable())

    def _unavailable(self) -> EngineError:
        if self.state is EngineState.STOPPED:
            return EngineUnavailable("the server is shutting down")
        return EngineFailed("the engine has failed; see the server's log")
