r"""The engine process: one engine, driven by the messages of `agent.engine.wire`.

    python -m agent.engine.process --fd 7 --factory agent.engine.small:create --options '{}' \
        --scratch /tmp/va-engine-abc

Started by `agent.engine.supervisor` and of use to nobody else. It leaves when the gateway
says so or is gone, whichever comes first: its end of the socket then closes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

import structlog

from agent.engine import calls, wire
from agent.engine.branches import BranchDone, BranchKind, FinishReason
from agent.engine.contract import Branch, Conversation, Engine
from agent.engine.history import answer_item
from agent.errors import EngineError, EngineUnavailable, LocalError
from agent.logs import configure_logging

log = structlog.get_logger(__name__)

_AUTOGROUP = Path("/proc/self/autogroup")

STOP_S = 5.0
"""An engine that has not freed itself by then is left to the end of the process."""

EngineFactory = Callable[[dict[str, object]], Engine]
"""Makes an engine from its options; named on the command line as `module:function`."""


class EngineServer:
    """Makes the calls that arrive on an engine and reports what comes of them."""

    def __init__(
        self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._writer = writer
        self._conversations: dict[int, Conversation] = {}
        self._branches: dict[int, tuple[int, Branch]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until told to stop or the gateway is gone; then free the engine."""
        self._spawn(self._start())
        while not isinstance(message := await wire.read(self._reader), wire.Stop | None):
            self._handle(message)
        for number in tuple(self._conversations):
            self._close(number)
        async with asyncio.timeout(STOP_S):
            await self._engine.stop()

    def _report(self, report: wire.Report) -> None:
        if not self._writer.is_closing():
            self._writer.write(wire.encode(report))

    async def _start(self) -> None:
        try:
            await self._engine.start(lambda *step: self._report(wire.Progress(*step)))
        except LocalError as error:
            self._report(wire.CannotStart(error))
        except Exception as error:  # the boundary to the engine's libraries
            log.exception("the engine cannot start")
            self._report(
                wire.CannotStart(EngineError(f"the engine cannot start: {_summary(error)}"))
            )
        else:
            self._report(wire.Ready())

    def _handle(self, message: wire.Request | wire.Report) -> None:
        match message:
            case wire.Ping():
                self._report(wire.Pong())
            case wire.Open():
                self._open(message)
            case wire.Change(conversation=number, call=call):
                self._change(number, call)
            case wire.Close(conversation=number):
                self._close(number)
            case wire.StartBranch():
                self._start_branch(message)
            case wire.CancelBranch(branch=number):
                if number in self._branches:
                    self._branches[number][1].cancel()
            case _:
                raise wire.WireError(f"{type(message).__name__} is not for an engine")

    def _open(self, message: wire.Open) -> None:
        try:
            conversation = self._engine.open(message.settings, message.history)
        except EngineError as error:
            self._report(wire.ConversationFailed(message.conversation, error))
        else:
            self._conversations[message.conversation] = conversation

    def _change(self, number: int, call: calls.Call) -> None:
        conversation = self._conversations.get(number)
        if conversation is None:  # it failed, and the gateway was told
            return
        try:
            if isinstance(call, calls.Commit):
                committing = conversation.commit(call.item_id, call.after, head=call.head)
                self._spawn(self._follow_commit(number, call.serial, committing))
            elif isinstance(call, calls.Adopt):
                self._adopt(conversation, call)
            else:
                _make(conversation, call)
        except (EngineError, ValueError) as error:
            # The gateway refuses what an engine would refuse, so this is a fault of ours.
            log.exception("a call was refused", call=type(call).__name__)
            self._close(number)
            failure = EngineError(f"the engine refused a call: {_summary(error)}")
            self._report(wire.ConversationFailed(number, failure))

    def _adopt(self, conversation: Conversation, call: calls.Adopt) -> None:
        _, branch = self._branches.pop(call.branch, (0, None))
        if branch is not None:
            conversation.adopt(branch, call.item_id, len(call.text), call.after, head=call.head)
        elif call.text:  # it ran in a process that is gone
            item = answer_item(call.item_id, call.text)
            conversation.insert(item, call.after, head=call.head)

    def _close(self, number: int) -> None:
        conversation = self._conversations.pop(number, None)
        if conversation is not None:
            conversation.close()
        self._branches = {
            branch: entry for branch, entry in self._branches.items() if entry[0] != number
        }

    async def _follow_commit(self, number: int, serial: int, committing: Any) -> None:
        try:
            outcome = await committing
        except EngineError as error:
            outcome = error
        self._report(wire.CommitDone(number, serial, outcome))

    def _start_branch(self, message: wire.StartBranch) -> None:
        conversation = self._conversations.get(message.conversation)
        try:
            if conversation is None:
                raise EngineUnavailable("the conversation is not open")
            branch = conversation.branch(message.request)
        except EngineError as error:
            self._report(wire.BranchFailed(message.conversation, message.branch, error))
            return
        self._branches[message.branch] = (message.conversation, branch)
        self._spawn(self._follow_branch(message, branch))

    async def _follow_branch(self, message: wire.StartBranch, branch: Branch) -> None:
        conversation, number = message.conversation, message.branch
        keep = message.request.kind is BranchKind.ANSWER  # it may be adopted when it is done
        try:
            async for piece in branch:
                self._report(wire.Piece(conversation, number, piece))
                if isinstance(piece, BranchDone) and piece.reason is FinishReason.CANCELLED:
                    keep = False
        except EngineError as error:
            self._report(wire.BranchFailed(conversation, number, error))
            keep = False
        if not keep:
            self._branches.pop(number, None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Whoever waits for this task's report would wait for ever: leave, be restarted.
            log.critical("the engine process has a fault and leaves", exc_info=error)
            leave(1)


def _make(
    conversation: Conversation,
    call: calls.Configure
    | calls.Hear
    | calls.Cut
    | calls.Pause
    | calls.Resume
    | calls.Forget
    | calls.Insert
    | calls.Truncate
    | calls.Delete,
) -> None:
    """Make a call that nothing is reported of."""
    match call:
        case calls.Hear(samples=samples):
            conversation.hear(samples)
        case calls.Cut(keep_samples=keep_samples):
            conversation.cut(keep_samples)
        case calls.Pause():
            conversation.pause()
        case calls.Resume():
            conversation.resume()
        case calls.Forget():
            conversation.forget()
        case calls.Configure(settings=settings):
            conversation.configure(settings)
        case calls.Insert(item=item, after=after, head=head):
            conversation.insert(item, after, head=head)
        case calls.Truncate(item_id=item_id, upto=upto):
            conversation.truncate(item_id, upto)
        case calls.Delete(item_id=item_id):
            conversation.delete(item_id)


SWITCH_INTERVAL_S = 50e-6
"""How long a thread may keep the interpreter when another wants it. The engine's thread gives it
away in every step, for the device; Python's 5 ms would have it wait for the event loop's work."""


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def leave(code: int) -> NoReturn:
    """End this process at once: native threads may be in the middle of anything."""
    if tempfile.tempdir is not None:
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def stand_back(nice: int) -> None:
    """Let others go first on the same cores, by so much; before any thread is started.

    Linux weighs processes of one session against each other only, and sessions by a value of
    their own, where `sched_autogroup_enabled` is set (man 7 sched); this process has its own.
    """
    if nice:
        os.nice(nice)
        with contextlib.suppress(OSError):  # no such file: niceness counts by itself
            _AUTOGROUP.write_text(str(nice), encoding="ascii")


async def serve(engine: Engine, connection: socket.socket) -> None:
    """Serve one gateway over a connected socket, then leave the process."""
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    server = EngineServer(engine, reader, writer)
    try:
        await server.run()
    except Exception:  # the boundary of the process: it is restarted
        log.exception("the engine process has a fault and leaves")
        leave(1)
    # Not by returning: asyncio would wait for threads, such as one that downloads.
    leave(0)


def main() -> None:
    """Run as a child of the gateway."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="connected Unix socket")
    parser.add_argument("--factory", required=True, help="module:function that makes the engine")
    parser.add_argument("--options", type=json.loads, required=True, help="JSON object for it")
    parser.add_argument("--scratch", required=True, help="folder for temporary files; removed")
    parser.add_argument("--nice", type=int, default=0, help="how far to stand back, 0 to 19")
    options = parser.parse_args()
    configure_logging("info")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stand_back(options.nice)
    tempfile.tempdir = options.scratch
    module, _, name = options.factory.partition(":")
    factory: EngineFactory = getattr(importlib.import_module(module), name)
    asyncio.run(serve(factory(options.options), socket.socket(fileno=options.fd)))


if __name__ == "__main__":
    main()
