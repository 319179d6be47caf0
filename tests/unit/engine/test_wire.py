from __future__ import annotations

import asyncio
import os
import pickle
from enum import Enum

import numpy as np
import pytest

from agent.engine import calls, wire
from agent.engine.branches import (
    BranchDone,
    BranchKind,
    BranchRequest,
    FinishReason,
    Limits,
    TextDelta,
    Usage,
)
from agent.engine.contract import Committed, ConversationSettings
from agent.engine.items import Item, Role, Speech, Text, ToolCall, ToolResult
from agent.errors import ContextOverflow, EngineUnavailable

ITEM = Item(
    "i", Role.TOOL, (Text("é"), Speech((b"\0\1",)), ToolCall("c", "f", "{}"), ToolResult("c", "1"))
)
CALLS: list[calls.Call] = [
    calls.Configure(ConversationSettings("be brief", ({"name": "f"},), "de")),
    calls.Hear.of(np.array([0.5, -1.0], np.float32)),
    calls.Cut(3),
    calls.Pause(),
    calls.Resume(),
    calls.Forget(),
    calls.Commit(1, "i", "before"),
    calls.Adopt(2, "i", "text", None),
    calls.Insert(ITEM, head=True),
    calls.Truncate("i", 3),
    calls.Delete("i"),
]
REQUEST = BranchRequest(
    BranchKind.ANSWER, instructions="x", context=("i", ITEM), limits=Limits(5, 0.0, 7)
)
MESSAGES: list[wire.Request | wire.Report] = [
    wire.Open(1, ConversationSettings(), (ITEM,)),
    wire.Open(1, ConversationSettings(language="de", translate_into="en"), ()),
    *(wire.Change(1, call) for call in CALLS),
    wire.Close(1),
    wire.StartBranch(1, 2, REQUEST),
    wire.CancelBranch(2),
    wire.Ping(),
    wire.Stop(),
    wire.Progress("loading", None),
    wire.Ready(),
    wire.CommitDone(1, 2, Committed(Usage(audio_tokens=3), "words")),
    wire.Piece(1, 2, TextDelta("w")),
    wire.Piece(1, 2, TextDelta("w", Usage(text_tokens=4, dropped_items=2))),
    wire.Piece(1, 2, TextDelta("w", is_source=True)),
    wire.Piece(1, 2, BranchDone(FinishReason.CANCELLED, Usage(), {"prompt": 1.5})),
    wire.StartBranch(1, 3, BranchRequest(BranchKind.TURN_END)),
    wire.Piece(1, 3, BranchDone(FinishReason.STOP, Usage(), probability=0.25)),
    wire.Pong(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
async def test_a_message_arrives_as_it_was_sent(message: wire.Request | wire.Report) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(wire.encode(message) + wire.encode(wire.Ping()))
    assert await wire.read(reader) == message
    assert await wire.read(reader) == wire.Ping()


@pytest.mark.parametrize("kind", [wire.CannotStart, lambda e: wire.BranchFailed(1, 2, e)])
def test_an_error_arrives_with_its_kind_and_words(kind) -> None:  # type: ignore[no-untyped-def]
    sent = kind(ContextOverflow("too long"))
    arrived = wire.decode(wire.encode(sent)[4:])
    assert isinstance(arrived, wire.CannotStart | wire.BranchFailed)
    assert type(arrived.error) is ContextOverflow
    assert str(arrived.error) == "too long"


@pytest.mark.parametrize("kind", [BranchKind, FinishReason, Role])
def test_members_of_enums_are_named_by_their_value(
    kind: type[Enum], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11.2 pickles them as a call of `getattr`, which is refused at the other end."""
    monkeypatch.setattr(
        kind, "__reduce_ex__", lambda self, _: (getattr, (type(self), self.name)), raising=False
    )
    for message in MESSAGES:
        assert wire.decode(wire.encode(message)[4:]) == message


def test_samples_keep_every_bit() -> None:
    samples = np.array([1e-9, -0.1, 1.0], np.float32)
    assert calls.Hear.of(samples).samples.tobytes() == samples.tobytes()


async def test_the_end_of_the_stream_is_no_message_and_half_a_message_neither() -> None:
    for data in (b"", b"\0\0", wire.encode(wire.Ping())[:-1]):
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        assert await wire.read(reader) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        pickle.dumps(3),
        pickle.dumps(os.system),
        pickle.dumps(EngineUnavailable("an error is no message")),
        pickle.dumps(ITEM),
        b"cagent.engine.contract\nABC\n.",
        b"cagent.engine.wire\nencode\n.",
        b"cagent.engine.contract\nnothing\n.",
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(wire.WireError, match="message"):
        wire.decode(body)


async def test_a_length_beyond_all_reason_is_refused_unread() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data((wire.MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(wire.WireError, match="bytes"):
        await wire.read(reader)
