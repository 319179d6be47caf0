"""Conversations that outlive their engine process, without any process."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from agent.engine import calls, wire
from agent.engine.branches import (
    BranchDone,
    BranchKind,
    BranchRequest,
    FinishReason,
    TextDelta,
    Usage,
)
from agent.engine.contract import Committed, ConversationSettings
from agent.engine.items import Item, Role, Text
from agent.engine.supervised import SupervisedConversation
from agent.errors import EngineError, EngineUnavailable

ANSWER = BranchRequest(BranchKind.ANSWER)
TRANSCRIPT = BranchRequest(BranchKind.TRANSCRIPT, item_id="u1")
DONE = BranchDone(FinishReason.STOP, Usage(output_tokens=2))
SPEECH = np.full(16_000, 0.5, np.float32)


class Wire:
    """Collects what is sent to one process."""

    def __init__(self) -> None:
        self.sent: list[wire.Request] = []

    def __call__(self, message: wire.Request) -> None:
        self.sent.append(message)

    def take(self) -> list[wire.Request]:
        sent, self.sent = self.sent, []
        return sent

    def take_branch(self) -> wire.StartBranch:
        """The one branch among what was sent."""
        (start,) = [one for one in self.take() if isinstance(one, wire.StartBranch)]
        return start


def conversation(ready_timeout_s: float = 60) -> SupervisedConversation:
    return SupervisedConversation(
        7, ConversationSettings(), (), on_close=lambda: None, ready_timeout_s=ready_timeout_s
    )


def user(item_id: str) -> Item:
    return Item(item_id, Role.USER, (Text(item_id),))


async def test_calls_are_sent_in_order_while_there_is_a_process() -> None:
    one, out = conversation(), Wire()
    one.insert(user("q0"))
    one.attach(out)
    one.hear(SPEECH)
    one.pause()
    one.resume()
    one.forget()
    one.truncate("q0", 1)
    one.delete("q0")
    one.configure(ConversationSettings("x"))
    opened, *changes = out.take()
    assert opened == wire.Open(7, ConversationSettings(), (user("q0"),))
    assert [type(change.call) for change in changes if isinstance(change, wire.Change)] == [
        calls.Hear,
        calls.Pause,
        calls.Resume,
        calls.Forget,
        calls.Truncate,
        calls.Delete,
        calls.Configure,
    ]


async def test_an_early_answer_is_not_begun_in_another_process_than_it_was_asked_for() -> None:
    """By then what was open may be an item, and something else be open."""
    early = BranchRequest(BranchKind.ANSWER, include_open=True)
    one, out = conversation(), Wire()
    one.hear(SPEECH)
    refused = one.branch(early)
    with pytest.raises(EngineUnavailable, match="restarted"):
        await anext(aiter(refused))
    one.attach(out)
    lost = one.branch(early)
    assert out.take_branch().request.include_open
    one.detach()
    with pytest.raises(EngineUnavailable, match="stopped"):
        await anext(aiter(lost))
    one.attach(again := Wire())
    assert not [message for message in again.sent if isinstance(message, wire.StartBranch)]


async def test_a_commit_is_asked_for_again_once_and_then_given_up() -> None:
    one = conversation()
    one.attach(Wire())
    one.hear(SPEECH)
    outcome = asyncio.ensure_future(one.commit("u1"))
    assert one.backlog_s == 1
    one.detach()
    again = Wire()
    one.attach(again)
    assert [type(m.call) for m in again.sent if isinstance(m, wire.Change)] == [
        calls.Hear,
        calls.Commit,
    ]
    one.detach()
    with pytest.raises(EngineUnavailable):
        await outcome
    assert one.backlog_s == 0
    third = Wire()
    one.attach(third)
    (opened,) = third.sent
    assert isinstance(opened, wire.Open)
    assert opened.history[0].content[0].transcript == ""  # type: ignore[union-attr]


async def test_a_commit_made_without_a_process_has_both_its_tries() -> None:
    one = conversation()
    one.hear(SPEECH)
    outcome = one.commit("u1")
    one.attach(Wire())
    one.detach()
    one.attach(Wire())
    one.settle(1, Committed(Usage(), "hello"))
    assert (await outcome).transcript == "hello"


async def test_an_awaited_commit_may_be_given_up_by_the_one_who_waits() -> None:
    one = conversation()
    one.attach(Wire())
    one.hear(SPEECH)
    waiting = asyncio.ensure_future(one.commit("u1"))
    waiting.cancel()
    one.settle(1, Committed(Usage(), "hello"))
    assert one.backlog_s == 0


async def test_a_commit_that_failed_is_inaudible_and_raises_what_the_engine_said() -> None:
    one = conversation()
    one.attach(Wire())
    one.hear(SPEECH)
    outcome = one.commit("u1")
    one.settle(1, EngineError("no such language"))
    with pytest.raises(EngineError, match="no such language"):
        await outcome
    assert one.backlog_s == 0


async def test_the_commit_of_a_deleted_item_does_not_wait_for_ever() -> None:
    one = conversation()
    one.attach(Wire())
    one.hear(SPEECH)
    outcome = one.commit("u1")
    one.delete("u1")
    one.detach()
    with pytest.raises(EngineUnavailable):
        await outcome


async def test_a_repeated_transcript_goes_on_where_the_first_ended() -> None:
    one, out = conversation(), Wire()
    one.insert(user("u1"))
    one.attach(out)
    branch = one.branch(TRANSCRIPT)
    number = out.take_branch().branch
    for text in ("to be ", "or "):
        one.receive(number, TextDelta(text))
    one.detach()
    one.attach(out)
    assert out.take_branch().branch == number
    for text in ("to", " be or not", " to be"):
        one.receive(number, TextDelta(text))
    one.receive(number, DONE)
    pieces = [piece async for piece in branch]
    assert pieces == [
        TextDelta("to be "),
        TextDelta("or "),
        TextDelta("not"),
        TextDelta(" to be"),
        DONE,
    ]


async def test_a_repeated_transcript_that_differs_fails_instead_of_contradicting() -> None:
    one, out = conversation(), Wire()
    one.attach(out)
    branch = one.branch(TRANSCRIPT)
    number = out.take_branch().branch
    one.receive(number, TextDelta("to be"))
    one.detach()
    one.attach(out)
    one.receive(number, TextDelta("two bees"))
    pieces = aiter(branch)
    await anext(pieces)
    with pytest.raises(EngineUnavailable, match="otherwise"):
        await anext(pieces)


@pytest.mark.parametrize("asked", [TRANSCRIPT, ANSWER], ids=["transcript", "answer"])
async def test_what_had_no_text_yet_is_repeated_only_once(asked: BranchRequest) -> None:
    """It may be what kills the processes."""
    one = conversation()
    branch = one.branch(asked)
    for _ in range(2):
        one.attach(Wire())
        one.detach()
    with pytest.raises(EngineUnavailable):
        await anext(aiter(branch))


async def test_an_answer_fails_with_its_process_but_a_cancelled_one_is_just_cancelled() -> None:
    one, out = conversation(), Wire()
    one.attach(out)
    running = one.branch(ANSWER)
    number = out.take_branch().branch
    cancelled = one.branch(ANSWER)
    cancelled.cancel()
    assert out.sent[-1] == wire.CancelBranch(out.sent[-2].branch)  # type: ignore[union-attr]
    one.receive(number, TextDelta("Half of "))
    one.detach()
    pieces = aiter(running)
    assert await anext(pieces) == TextDelta("Half of ")
    with pytest.raises(EngineUnavailable):
        await anext(pieces)
    done = await anext(aiter(cancelled))
    assert isinstance(done, BranchDone)
    assert done.reason is FinishReason.CANCELLED


async def test_an_answer_without_text_is_made_again_once_on_the_items_it_was_asked_on() -> None:
    one, first, second = conversation(), Wire(), Wire()
    one.insert(user("q1"))
    one.attach(first)
    branch, lost = one.branch(ANSWER), one.branch(ANSWER)
    one.detach()
    lost.cancel()
    one.insert(user("q2"))
    one.attach(second)
    again = second.take_branch()
    assert again.request.context == ("q1",)
    one.receive(again.branch, TextDelta("Yes."))
    one.receive(again.branch, DONE)
    assert [piece async for piece in branch] == [TextDelta("Yes."), DONE]
    assert (await anext(aiter(lost))).reason is FinishReason.CANCELLED  # type: ignore[union-attr]


async def test_an_answer_that_is_to_be_made_again_gives_up_after_its_time() -> None:
    one = conversation(ready_timeout_s=0)
    one.attach(Wire())
    branch = one.branch(ANSWER)
    one.detach()
    with pytest.raises(EngineUnavailable, match="within 0 s"):
        await anext(aiter(branch))


async def test_an_early_answer_fails_with_its_process() -> None:
    one = conversation()
    one.attach(Wire())
    one.hear(SPEECH)
    one.pause()
    branch = one.branch(BranchRequest(BranchKind.ANSWER, include_open=True))
    one.detach()
    with pytest.raises(EngineUnavailable):
        await anext(aiter(branch))


async def test_a_waiting_answer_can_be_cancelled_and_is_then_never_sent() -> None:
    one, out = conversation(), Wire()
    branch = one.branch(ANSWER)
    branch.cancel()
    one.attach(out)
    assert [type(message) for message in out.sent] == [wire.Open]
    assert (await anext(aiter(branch))).reason is FinishReason.CANCELLED  # type: ignore[union-attr]


async def test_a_waiting_answer_gives_up_after_its_time() -> None:
    branch = conversation(ready_timeout_s=0).branch(ANSWER)
    with pytest.raises(EngineUnavailable, match="within 0 s"):
        await anext(aiter(branch))


async def test_a_waiting_answer_is_given_the_items_it_was_asked_on() -> None:
    one, out = conversation(), Wire()
    one.insert(user("q1"))
    one.insert(user("q2"))
    one.branch(ANSWER)
    one.delete("q1")
    one.insert(user("q3"))
    one.attach(out)
    assert out.take_branch().request.context == (user("q1"), "q2")


async def test_an_answer_on_its_own_context_keeps_it() -> None:
    one, out = conversation(), Wire()
    one.branch(BranchRequest(BranchKind.ANSWER, context=()))
    one.insert(user("q1"))
    one.attach(out)
    assert out.take_branch().request.context == ()


async def test_adopting_keeps_what_was_received_even_without_a_process() -> None:
    one, out = conversation(), Wire()
    one.attach(out)
    branch = one.branch(ANSWER)
    number = out.take_branch().branch
    one.receive(number, TextDelta("hello there"))
    one.adopt(branch, "a1", 5)
    assert out.take()[-1] == wire.Change(7, calls.Adopt(number, "a1", "hello"))
    one.detach()
    one.attach(out)
    (opened,) = out.take()
    assert isinstance(opened, wire.Open)
    assert opened.history == (Item("a1", Role.ASSISTANT, (Text("hello"),)),)


async def test_a_refused_conversation_fails_at_once_until_there_is_a_process_again() -> None:
    one = conversation()
    before = one.branch(ANSWER)
    one.refuse(EngineUnavailable("given up"))
    one.hear(SPEECH)
    committing = one.commit("u1")
    for branch in (before, one.branch(ANSWER), one.branch(TRANSCRIPT)):
        with pytest.raises(EngineUnavailable, match="given up"):
            await anext(aiter(branch))
    with pytest.raises(EngineUnavailable, match="given up"):
        await committing
    out = Wire()
    one.attach(out)
    assert any(
        isinstance(message, wire.Change) and isinstance(message.call, calls.Commit)
        for message in out.sent
    )
    one.settle(1, Committed(Usage(), "late"))
    assert one.backlog_s == 0


async def test_closing_tells_the_process_and_ends_what_runs() -> None:
    one, out = conversation(), Wire()
    one.attach(out)
    branch = one.branch(ANSWER)
    one.close()
    assert out.sent[-1] == wire.Close(7)
    with pytest.raises(EngineUnavailable):
        await anext(aiter(branch))
    one.receive(1, TextDelta("late"))
    one.settle(1, Committed(Usage(), "late"))


async def test_branches_of_other_engines_are_not_adopted() -> None:
    with pytest.raises(TypeError):
        conversation().adopt(object(), "a", 1)  # type: ignore[arg-type]


async def test_a_translation_goes_on_in_a_new_process_where_it_was() -> None:
    one, old, new = conversation(), Wire(), Wire()
    one.attach(old)
    one.configure(ConversationSettings(translate_into="es"))
    one.hear(SPEECH)
    one.commit("u1")
    branch = one.branch(BranchRequest(BranchKind.TRANSLATION, item_id="u1"))
    one.receive(old.take_branch().branch, TextDelta("one", is_source=True))
    one.detach()
    one.attach(new)
    number = new.take_branch().branch
    for piece in (
        TextDelta("on", is_source=True),
        TextDelta("e two", is_source=True),
        TextDelta("uno"),
        DONE,
    ):
        one.receive(number, piece)
    assert [piece async for piece in branch] == [
        TextDelta("one", is_source=True),
        TextDelta(" two", is_source=True),
        TextDelta("uno"),
        DONE,
    ]
