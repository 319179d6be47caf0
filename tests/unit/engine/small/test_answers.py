"""How the embedded engine answers: limits, room, cancelling and failures."""

from __future__ import annotations

import asyncio

import pytest

from agent.audio.pcm import encode_pcm16
from agent.engine.branches import (
    BranchDone,
    BranchKind,
    BranchRequest,
    FinishReason,
    Limits,
    TextDelta,
    Usage,
)
from agent.engine.items import Item, Role, Speech
from agent.errors import (
    ContextOverflow,
    EngineError,
)
from tests.helpers.engines import user
from tests.helpers.patience import PATIENCE_S
from tests.helpers.small_engine import ANSWER, FakeEar, FakeModel, engine, read, word


async def test_a_branch_has_its_own_instructions_items_and_limits() -> None:
    model = FakeModel()
    async with engine(FakeEar(), model) as opened:
        one = opened((user("a", "first"), user("b", "second")))
        spoken = Item("c", Role.USER, (Speech((encode_pcm16(word(8)),)),))
        text, done = await read(
            one.branch(
                BranchRequest(
                    BranchKind.ANSWER,
                    instructions="",
                    context=("a", spoken, user("d", "one two three")),
                    limits=Limits(2, 0.0, 42),
                )
            )
        )
        with pytest.raises(EngineError, match="no item 'gone'"):
            one.branch(BranchRequest(BranchKind.ANSWER, context=("gone",)))
    assert (text, done.reason) == ("one two ", FinishReason.MAX_OUTPUT_TOKENS)
    assert [message["content"] for message in model.prompts[0]] == [
        "",
        "first",
        "8",
        "one two three",
    ]
    (sampling,) = model.samplings
    assert (sampling.max_output_tokens, sampling.temperature, sampling.seed) == (2, 0.0, 42)


async def test_limits_that_are_not_given_are_the_engines_own() -> None:
    model = FakeModel()
    async with engine(FakeEar(), model) as opened:
        await read(opened((user("a", "x"),)).branch(ANSWER))
    assert model.samplings[0].temperature == 0.5
    assert model.samplings[0].max_output_tokens == 100


async def test_an_answer_has_no_more_room_than_the_prompt_leaves() -> None:
    model = FakeModel(context_tokens=40)
    async with engine(FakeEar(), model) as opened:
        one = opened((user("a", "x " * 10),))
        _, done = await read(one.branch(ANSWER))
        assert done.usage.output_tokens == 10
        one.insert(user("b", "y" * 30))
        with pytest.raises(ContextOverflow):
            await read(one.branch(ANSWER))
    assert model.samplings[0].max_output_tokens == 40 - len("Be brief." + "x " * 10)


async def test_usage_says_how_many_items_were_left_out() -> None:
    model = FakeModel(context_tokens=60)
    async with engine(FakeEar(), model) as opened:
        one = opened((user("a", "a" * 15), user("b", "b" * 15)))
        _, whole = await read(one.branch(ANSWER))
        one.insert(user("c", "c" * 15))
        _, cut = await read(one.branch(ANSWER))
    assert whole.usage.dropped_items == 0
    kept = [message["content"][0] for message in model.prompts[1]]
    assert kept == ["B", "c"]
    assert cut.usage.dropped_items == 2


async def test_a_cancelled_answer_stops_at_the_next_token() -> None:
    model = FakeModel(held=True)
    async with engine(FakeEar(), model) as opened:
        one = opened((user("a", "one two three four"),))
        branch = one.branch(ANSWER)
        pieces = aiter(branch)
        model.allow()
        spent = Usage(len("Be brief.one two three four"), 0, 1, output_tokens=1)
        assert await anext(pieces) == TextDelta("one ", spent)
        branch.cancel()
        branch.cancel()
        model.allow(3)
        done = await anext(pieces)
        assert isinstance(done, BranchDone)
        assert (done.reason, done.usage.output_tokens) == (FinishReason.CANCELLED, 2)


async def test_an_answer_can_be_cancelled_before_it_begins_or_while_it_waits() -> None:
    ear, model = FakeEar(held=True), FakeModel(held=True)
    async with engine(ear, model) as opened:
        one, other = opened((user("a", "x"),)), opened()
        at_once = one.branch(ANSWER)
        at_once.cancel()
        other.hear(word(1))
        other.commit("u1")
        waiting_for_words = other.branch(ANSWER)
        running = [one.branch(ANSWER) for _ in range(2)]
        for _ in running:
            assert await asyncio.to_thread(model.begun.acquire, timeout=PATIENCE_S)
        waiting_for_place = one.branch(ANSWER)
        await asyncio.sleep(0)
        for branch in (waiting_for_words, waiting_for_place):
            branch.cancel()
        for branch in (at_once, waiting_for_words, waiting_for_place):
            _, done = await read(branch)
            assert done.reason is FinishReason.CANCELLED
    assert len(model.prompts) == 2


@pytest.mark.parametrize(("said", "words"), [("boom", "gave up"), ("bug", "RuntimeError")])
async def test_a_model_that_fails_fails_one_answer(said: str, words: str) -> None:
    async with engine(FakeEar(), FakeModel()) as opened:
        one = opened((user("a", said),))
        with pytest.raises(EngineError, match=words):
            await read(one.branch(ANSWER))
        one.insert(user("b", "fine"))
        assert (await read(one.branch(ANSWER)))[0] == "fine "
