"""Carries a session's commands to its engine conversation, and branches' text back.

The boundary to the engine: whatever an engine raises fails one answer or one utterance,
never the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from structlog.typing import FilteringBoundLogger

from agent.engine import branches, contract
from agent.errors import EngineBusy, EngineError, LocalError
from agent.gateway.services import Services
from agent.gateway.translate import engine_item, engine_request, engine_settings, session_usage
from agent.session import commands, tokens


class EngineSide:
    """One session's conversation and the branches that run in it.

    Args:
        conversation: Open; closed by `close`.
        services: What all sessions share.
        deliver: Takes what branches give, in the event loop.
        log: Bound to the session.
    """

    def __init__(
        self,
        conversation: contract.Conversation,
        services: Services,
        deliver: Callable[[tokens.TokenEvent], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._conversation = conversation
        self._services = services
        self._settings = services.settings
        self._deliver = deliver
        self._log = log
        self._branches: dict[str, contract.Branch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def backlog_s(self) -> float:
        """Seconds of speech that are not understood yet."""
        return self._conversation.backlog_s

    def execute(self, command: commands.Command) -> None:
        """Carry out one command.

        Raises:
            EngineError: The engine refused it; a branch that cannot start is reported as
                failed instead.
        """
        match command:
            case commands.StartBranch() | commands.DropBranch() | commands.AdoptBranch():
                self._execute_on_branch(command)
            case commands.InsertItem() | commands.TruncateItem() | commands.DeleteItem():
                self._execute_on_item(command)
            case commands.Configure():
                self._conversation.configure(engine_settings(command))
            case _:
                self._execute_on_utterance(command)

    def close(self) -> None:
        """Stop all branches and free the conversation."""
        for task in tuple(self._tasks):
            task.cancel()
        self._conversation.close()

    def _execute_on_utterance(
        self,
        command: commands.Hear
        | commands.Cut
        | commands.Pause
        | commands.Resume
        | commands.Forget
        | commands.Commit,
    ) -> None:
        match command:
            case commands.Hear(samples=samples):
                self._conversation.hear(samples)
            case commands.Cut(keep_samples=keep_samples):
                self._conversation.cut(keep_samples)
            case commands.Pause():
                if self._settings.early.work != "none":
                    self._conversation.pause()
            case commands.Resume():
                self._conversation.resume()
            case commands.Forget():
                self._conversation.forget()
            case commands.Commit(item_id=item_id, after=after):
                committed = self._conversation.commit(item_id, after, head=after is None)
                self._start(self._watch_commit(item_id, committed))

    def _execute_on_item(
        self, command: commands.InsertItem | commands.TruncateItem | commands.DeleteItem
    ) -> None:
        match command:
            case commands.InsertItem(item=item, after=after):
                self._conversation.insert(engine_item(item), after, head=after is None)
            case commands.TruncateItem(item_id=item_id, upto=upto):
                self._conversation.truncate(item_id, upto)
            case commands.DeleteItem(item_id=item_id):
                self._conversation.delete(item_id)

    def _execute_on_branch(
        self, command: commands.StartBranch | commands.DropBranch | commands.AdoptBranch
    ) -> None:
        match command:
            case commands.StartBranch():
                self._start_branch(command)
            case commands.DropBranch(branch_id=branch_id):
                if (branch := self._branches.pop(branch_id, None)) is not None:
                    branch.cancel()
            case commands.AdoptBranch(branch_id=branch_id, item_id=item_id, upto=upto, after=after):
                branch = self._branches.pop(branch_id)
                self._conversation.adopt(branch, item_id, upto, after, head=after is None)

    def _start_branch(self, command: commands.StartBranch) -> None:
        """Start it now, on the state as it is; even a refusal is delivered later, in order."""
        if command.optional and not self._has_time(command):
            self._start(self._decline(command.branch_id))
            return
        request = engine_request(
            command,
            temperature=self._settings.temperature,
            max_output_tokens=self._settings.max_output_tokens,
        )
        try:
            branch = self._conversation.branch(request)
        except EngineError as error:
            self._start(self._fail(command, error))
            return
        self._branches[command.branch_id] = branch
        load = self._services.load
        load.running += 1

        def ended(_: asyncio.Task[None]) -> None:
            load.running -= 1
            # An answer may be kept or dropped long after it was complete.
            if command.purpose is not commands.BranchPurpose.ANSWER:
                self._branches.pop(command.branch_id, None)

        self._start(self._follow(command, branch)).add_done_callback(ended)

    def _has_time(self, command: commands.StartBranch) -> bool:
        """Whether the engine can do what is optional."""
        if command.purpose is commands.BranchPurpose.TRANSCRIPT:
            return not self._services.engine_is_behind  # an answer is withheld until it is there
        return self._services.engine_has_time

    async def _decline(self, branch_id: str) -> None:
        self._deliver(
            tokens.BranchFailed(branch_id, EngineBusy.code, "the engine has no time to spare")
        )

    async def _fail(self, command: commands.StartBranch, error: EngineError) -> None:
        # Captions are dropped at any pause, and nobody asked for what is optional.
        if command.purpose is not commands.BranchPurpose.CAPTION and not command.optional:
            self._log.warning("branch failed", branch_id=command.branch_id, code=error.code)
        self._deliver(tokens.BranchFailed(command.branch_id, error.code, str(error)))

    async def _follow(self, command: commands.StartBranch, branch: contract.Branch) -> None:
        """Carry a branch's text to the session until it ends or is let go."""
        branch_id = command.branch_id
        try:
            async for piece in branch:
                match piece:
                    case branches.TextDelta(text=text, usage=usage, is_source=is_source):
                        spent = None if usage is None else session_usage(usage)
                        event: tokens.TokenEvent = tokens.BranchText(
                            branch_id, text, spent, is_source
                        )
                    case branches.BranchDone(reason=branches.FinishReason.CANCELLED):
                        return
                    case branches.BranchDone():
                        event = tokens.BranchEnded(
                            branch_id,
                            complete=piece.reason is branches.FinishReason.STOP,
                            usage=session_usage(piece.usage),
                            stages_ms=piece.stages_ms,
                        )
                self._deliver(event)
        except EngineError as error:
            await self._fail(command, error)
        except Exception:  # noqa: BLE001  # the boundary: one answer fails, the session goes on
            self._log.exception("branch crashed", branch_id=branch_id)
            self._deliver(
                tokens.BranchFailed(branch_id, LocalError.code, "an internal error; see the log")
            )

    async def _watch_commit(self, item_id: str, committed: Awaitable[contract.Committed]) -> None:
        """Log an utterance that could not be understood; its branches report it themselves."""
        try:
            await committed
        except EngineError as error:
            self._log.warning("utterance not understood", item_id=item_id, code=error.code)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
