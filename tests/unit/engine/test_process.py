"""The engine's side of the wire, over streams in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent.engine import calls, wire
from agent.engine.branches import BranchKind, BranchRequest, TextDelta, Usage
from agent.engine.contract import Committed, Conversation, ConversationSettings, ProgressCallback
from agent.engine.items import Item, Role, Text
from agent.engine.process import EngineServer
from agent.errors import EngineBusy, EngineError
from tests.helpers.patience import PATIENCE_S
from tests.helpers.scripted_engine import ScriptedConversation, ScriptedEngine, spoken

NOBODY = ConversationSettings()


class Gateway:
    """The other end: sends requests, reads reports."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._requests = asyncio.StreamReader()
        self._reports = asyncio.StreamReader()
        self.server = EngineServer(engine, self._requests, self)  # type: ignore[arg-type]
        self._running = asyncio.create_task(self.server.run())

    def write(self, data: bytes) -> None:
        self._reports.feed_data(data)

    def is_closing(self) -> bool:
        return False

    def send(self, *messages: wire.Request) -> None:
        for message in messages:
            self._requests.feed_data(wire.encode(message))

    async def report(self) -> wire.Report:
        async with asyncio.timeout(PATIENCE_S):
            message = await wire.read(self._reports)
        assert message is not None
        return message  # type: ignore[return-value]

    async def reports(self, kind: type[wire.Report]) -> AsyncIterator[wire.Report]:
        while True:
            report = await self.report()
            if isinstance(report, kind):
                yield report

    async def leave(self) -> None:
        self._requests.feed_eof()
        await self._running


class Refusing(ScriptedConversation):
    """Refuses what the gateway's mirror lets through."""

    def truncate(self, item_id: str, upto: int) -> None:
        raise ValueError("never")


class RefusingEngine(ScriptedEngine):
    """Has one place, for a conversation that refuses."""

    places = 1

    def open(self, settings: ConversationSettings, history: object = ()) -> Conversation:  # type: ignore[override]
        if not self.places:
            raise EngineBusy("full")
        self.places -= 1
        return Refusing({}, settings, ())


class BrokenEngine(ScriptedEngine):
    """Has a bug."""

    async def start(self, progress: ProgressCallback) -> None:
        raise KeyError("oops")


def asked(text: str) -> wire.Change:
    return wire.Change(1, calls.Insert(Item("q1", Role.USER, (Text(text),))))


def answer(number: int = 1) -> wire.StartBranch:
    return wire.StartBranch(1, number, BranchRequest(BranchKind.ANSWER))


async def test_it_reports_how_loading_goes_and_answers_pings_meanwhile() -> None:
    gateway = Gateway(ScriptedEngine())
    gateway.send(wire.Ping())
    seen = {type(await gateway.report()) for _ in range(3)}
    await gateway.leave()
    assert seen == {wire.Progress, wire.Ready, wire.Pong}


@pytest.mark.parametrize(
    ("engine", "words"),
    [(ScriptedEngine({"cannot_start": "no model"}), "no model"), (BrokenEngine(), "KeyError")],
)
async def test_an_engine_that_cannot_start_says_so(engine: ScriptedEngine, words: str) -> None:
    gateway = Gateway(engine)
    report = await anext(gateway.reports(wire.CannotStart))
    await gateway.leave()
    assert words in str(report.error)  # type: ignore[union-attr]


async def test_every_call_reaches_the_conversation() -> None:
    gateway = Gateway(ScriptedEngine())
    changes: list[calls.Call] = [
        calls.Configure(ConversationSettings("brief")),
        calls.Hear.of(spoken(1)),
        calls.Forget(),
        calls.Hear.of(spoken(2, 100)),
        calls.Hear.of(spoken(3, 100)),
        calls.Cut(100),
        calls.Pause(),
        calls.Resume(),
        calls.Commit(5, "u1"),
        calls.Insert(Item("a1", Role.ASSISTANT, (Text("abc"),)), None, head=True),
        calls.Truncate("a1", 2),
        calls.Insert(Item("x", Role.USER, (Text("x"),))),
        calls.Delete("x"),
        calls.Adopt(99, "a2", "gone"),
        calls.Adopt(98, "a3", ""),
        calls.Insert(Item("q", Role.USER, (Text("history"),))),
    ]
    gateway.send(wire.Open(1, NOBODY, ()), *(wire.Change(1, call) for call in changes), answer())
    committed = await anext(gateway.reports(wire.CommitDone))
    piece = await anext(gateway.reports(wire.Piece))
    await gateway.leave()
    assert isinstance(committed, wire.CommitDone)
    assert isinstance(committed.outcome, Committed)
    assert (committed.serial, committed.outcome.transcript) == (5, "2 3")
    text = "a1 assistant ab | u1 user 2 3 | a2 assistant gone | q user history"
    spent = Usage(text_tokens=1, output_tokens=len(text))
    assert piece == wire.Piece(1, 1, TextDelta(text, spent))


async def test_a_finished_answer_can_be_adopted_and_a_running_one_cancelled() -> None:
    gateway = Gateway(ScriptedEngine())
    gateway.send(wire.Open(1, NOBODY, ()), asked("say one two"), answer(1))
    pieces = gateway.reports(wire.Piece)
    for _ in range(3):
        await anext(pieces)
    gateway.send(
        wire.Change(1, calls.Adopt(1, "a1", "one")),
        wire.Change(1, calls.Insert(Item("q2", Role.USER, (Text("hang"),)))),
        answer(2),
    )
    await anext(pieces)
    gateway.send(wire.CancelBranch(2), wire.CancelBranch(77))
    done = await anext(pieces)
    gateway.send(wire.Change(1, calls.Insert(Item("q3", Role.USER, (Text("history"),)))), answer(3))
    history = await anext(pieces)
    await gateway.leave()
    assert done.piece.reason == "cancelled"  # type: ignore[union-attr]
    assert history.piece.text.startswith("q1 user say one two | a1 assistant one |")  # type: ignore[union-attr]


async def test_what_fails_is_reported_to_the_branch_that_failed() -> None:
    gateway = Gateway(ScriptedEngine())
    gateway.send(wire.Open(1, NOBODY, ()), asked("fail"), answer(1))
    failed = await anext(gateway.reports(wire.BranchFailed))
    gateway.send(wire.StartBranch(2, 9, BranchRequest(BranchKind.ANSWER)))
    unknown = await anext(gateway.reports(wire.BranchFailed))
    await gateway.leave()
    assert (failed.branch, unknown.branch) == (1, 9)  # type: ignore[union-attr]
    assert "told to fail" in str(failed.error)  # type: ignore[union-attr]


async def test_a_conversation_that_refuses_is_given_up_and_the_others_go_on() -> None:
    gateway = Gateway(RefusingEngine())
    gateway.send(
        wire.Open(1, NOBODY, ()),
        wire.Open(2, NOBODY, ()),
        wire.Change(1, calls.Truncate("a", 1)),
        wire.Change(1, calls.Pause()),
        wire.Close(1),
        wire.Ping(),
    )
    failures = gateway.reports(wire.ConversationFailed)
    full, refused = await anext(failures), await anext(failures)
    assert isinstance(await gateway.report(), wire.Pong)
    await gateway.leave()
    assert isinstance(full, wire.ConversationFailed)
    assert isinstance(refused, wire.ConversationFailed)
    assert (full.conversation, type(full.error)) == (2, EngineBusy)
    assert (refused.conversation, type(refused.error)) == (1, EngineError)


async def test_it_leaves_when_told_to() -> None:
    gateway = Gateway(ScriptedEngine())
    gateway.send(wire.Open(1, NOBODY, ()), asked("hang"), answer(), wire.Stop())
    await gateway._running


async def test_a_report_is_no_request() -> None:
    gateway = Gateway(ScriptedEngine())
    gateway.send(wire.Pong())  # type: ignore[arg-type]
    with pytest.raises(wire.WireError, match="not for an engine"):
        await gateway._running
