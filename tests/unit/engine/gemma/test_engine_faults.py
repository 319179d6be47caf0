"""What goes wrong in one conversation harms no other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.audio.pcm import encode_pcm16  # noqa: E402
from agent.engine.branches import BranchKind, BranchRequest, FinishReason, Limits  # noqa: E402
from agent.engine.contract import Conversation, ConversationSettings  # noqa: E402
from agent.engine.gemma.prompts import PromptRenderer  # noqa: E402
from agent.engine.items import Item, Role, Speech, Text  # noqa: E402
from agent.errors import (  # noqa: E402
    ClipTooLong,
    ContextOverflow,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    TemplateFailed,
)
from tests.helpers.gemma_engine import (  # noqa: E402
    Answer,
    ManualEngine,
    check_greedy,
    prompt_of,
    read,
    record_tokens,
)
from tests.helpers.noise import noise  # noqa: E402

torch.set_num_threads(1)
GREEDY = Limits(max_output_tokens=8, temperature=0)
ANSWER = BranchRequest(BranchKind.ANSWER, limits=GREEDY)
SETTINGS = ConversationSettings("Be brief.")
SPEECH = noise(20_000)


@pytest.fixture(autouse=True)
def _tokens(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    record_tokens(monkeypatch.setattr)
    with capture_logs():  # tracebacks with all tensors in them take seconds to print
        yield


async def started(**changes: object) -> ManualEngine:
    engine = ManualEngine(**changes)
    await engine.start()
    return engine


@pytest.fixture
async def engine() -> AsyncIterator[ManualEngine]:
    engine = await started()
    yield engine
    await engine.stop()


def user(item_id: str, text: str) -> Item:
    return Item(item_id, Role.USER, (Text(text),))


async def ask(engine: ManualEngine, conversation: Conversation) -> Answer:
    branch = conversation.branch(ANSWER)
    await engine.rest()
    return await read(branch)


async def check_is_well(engine: ManualEngine, conversation: Conversation) -> None:
    """It says what it would have said anyway, to speech and before it."""
    conversation.hear(SPEECH)
    committed = conversation.commit("well")
    got = await ask(engine, conversation)
    assert got.error is None
    check_greedy(prompt_of([("user", [encode_pcm16(SPEECH)])], "Be brief."), got.tokens)
    assert (await committed).usage.audio_tokens == 31


def break_steps(engine: ManualEngine, owner: object, error: Callable[[], Exception]) -> list[int]:
    """Steps with rows of one conversation fail; returns how many rows each that failed had."""
    device, failed = engine.shop.device, []
    run = device._run

    def broken(kind: Any, works: Any) -> None:
        if any(one.row.resident.owner is owner for one in works):
            failed.append(len(works))
            raise error()
        run(kind, works)

    device._run = broken  # type: ignore[method-assign]
    return failed


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (lambda: torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (lambda: RuntimeError("shape"), "internal error"),
    ],
)
async def test_a_step_that_fails_ends_the_row_it_fails_for(
    engine: ManualEngine, error: Callable[[], Exception], told: str
) -> None:
    ill, well = engine.open(SETTINGS), engine.open(SETTINGS)
    well.hear(SPEECH[:15_000])
    ill.hear(noise(15_000, 1))
    engine.round()
    failed = break_steps(engine, ill._dialogue, error)
    await engine.rest()
    assert failed == [2, 1]  # together with the other, then alone
    well.hear(SPEECH[15_000:])
    well.commit("u1")
    got = await ask(engine, well)
    check_greedy(prompt_of([("user", [encode_pcm16(SPEECH)])], "Be brief."), got.tokens)
    committed = ill.commit("u1")
    await engine.settle()
    assert told in str((await ask(engine, ill)).error)
    with pytest.raises(EngineError, match=told):
        await committed


async def test_an_answer_that_fails_leaves_its_conversation_alone(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    conversation.insert(user("t", "Count."))
    first = conversation.branch(ANSWER)
    for _ in range(4):
        engine.round()
    run = engine.shop.device._run
    failed = break_steps(engine, conversation._dialogue, lambda: torch.OutOfMemoryError("full"))
    await engine.rest()
    assert "out of memory" in str((await read(first)).error)
    assert failed[0] == 1
    engine.shop.device._run = run  # type: ignore[method-assign]
    got = await ask(engine, conversation)
    check_greedy(prompt_of([("user", "Count.")], "Be brief."), got.tokens)


async def test_a_clip_of_thirty_seconds_is_refused_and_nothing_is_heard(
    engine: ManualEngine,
) -> None:
    conversation = engine.open(SETTINGS)
    with pytest.raises(ClipTooLong, match="480000"):
        conversation.hear(np.zeros(480_000, np.float32))
    with pytest.raises(ValueError, match="no open utterance"):
        conversation.commit("u1")
    with pytest.raises(ValueError, match="cannot keep"):
        conversation.cut(1)
    await check_is_well(engine, conversation)


async def test_a_prompt_that_does_not_fit_is_refused(engine: ManualEngine) -> None:
    conversation, other = engine.open(SETTINGS), engine.open(SETTINGS)
    conversation.insert(user("t", "x" * 3_000))
    got = await ask(engine, conversation)
    assert isinstance(got.error, ContextOverflow)
    assert "2048" in str(got.error)
    await check_is_well(engine, other)
    conversation.delete("t")
    await check_is_well(engine, conversation)


async def test_an_answer_ends_where_the_context_ends(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    conversation.insert(user("t", "x" * 1_960))
    branch = conversation.branch(
        BranchRequest(BranchKind.ANSWER, limits=Limits(max_output_tokens=500, temperature=0))
    )
    await engine.rest()
    got = await read(branch)
    assert got.done is not None
    assert got.done.reason is FinishReason.MAX_OUTPUT_TOKENS
    assert got.done.usage.text_tokens + got.done.usage.output_tokens == 2049


async def test_a_template_that_raises_is_told_to_the_one_who_asked(
    engine: ManualEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = PromptRenderer.render

    def raising(self: PromptRenderer, settings: Any, *rest: Any) -> Any:
        if "raise" in settings.instructions:
            raise TemplateFailed("the chat template raised")
        if "bug" in settings.instructions:
            raise KeyError("a bug")
        return render(self, settings, *rest)

    monkeypatch.setattr(PromptRenderer, "render", raising)
    ill, well = engine.open(ConversationSettings("raise")), engine.open(SETTINGS)
    worse = engine.open(ConversationSettings("bug"))
    for conversation, told in ((ill, "template raised"), (worse, "internal error: KeyError")):
        conversation.hear(SPEECH)
        committed = conversation.commit("u1")
        await engine.settle()
        assert told in str((await ask(engine, conversation)).error)
        with pytest.raises(EngineError, match=told):
            await committed
    await check_is_well(engine, well)
    ill.configure(SETTINGS)
    ill.delete("u1")
    await check_is_well(engine, ill)


async def test_a_full_house() -> None:
    engine = await started(slots=2)
    first, second, idle = (engine.open(SETTINGS) for _ in range(3))
    await engine.settle()
    first.hear(SPEECH)
    second.hear(SPEECH)
    await engine.rest()
    with pytest.raises(EngineBusy, match="2 conversations"):
        engine.open(SETTINGS)
    # Someone who only waited lost the place, and cannot be answered now.
    idle.insert(user("t", "Hello."))
    assert isinstance((await ask(engine, idle)).error, EngineBusy)
    # Those who have a place are answered in it, one after the other if need be.
    first.commit("u1")
    branches = [first.branch(ANSWER), first.branch(ANSWER)]
    await engine.rest()
    for branch in branches:
        got = await read(branch)
        check_greedy(prompt_of([("user", [encode_pcm16(SPEECH)])], "Be brief."), got.tokens)
    first.adopt(branches[0], "a1", 100)
    check_greedy(prompt_of([("user", "Hello.")], "Be brief."), (await ask(engine, idle)).tokens)
    second.commit("u1")
    got = await ask(engine, second)
    check_greedy(prompt_of([("user", [encode_pcm16(SPEECH)])], "Be brief."), got.tokens)
    await engine.stop()


async def test_a_single_place_is_enough() -> None:
    engine = await started(slots=1)
    one, other = engine.open(SETTINGS), engine.open(SETTINGS)
    await check_is_well(engine, one)
    await engine.settle()
    await check_is_well(engine, other)
    one.delete("well")
    await check_is_well(engine, one)
    await engine.stop()


async def test_closing_ends_what_is_under_way(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    conversation.hear(SPEECH)
    committed = conversation.commit("u1")
    branch = conversation.branch(ANSWER)
    assert conversation.backlog_s == 1.25
    conversation.close()
    await engine.rest()
    assert isinstance((await read(branch)).error, EngineUnavailable)
    with pytest.raises(EngineUnavailable):
        await committed
    assert engine.shop.residency.cache.free_slots == engine.slots_planned


async def test_nothing_can_be_opened_before_the_start() -> None:
    with pytest.raises(EngineUnavailable):
        ManualEngine().open(SETTINGS)


async def test_a_clip_of_thirty_one_seconds_in_a_history_fails_alone(engine: ManualEngine) -> None:
    clip = encode_pcm16(noise(31 * 16_000))
    well = engine.open(SETTINGS)
    ill = engine.open(SETTINGS, [Item("u1", Role.USER, (Speech((clip,)),))])
    well.hear(SPEECH[:10_000])
    await engine.settle()
    assert isinstance((await ask(engine, ill)).error, ClipTooLong)
    well.forget()
    await check_is_well(engine, well)


async def test_speech_beyond_the_context_is_told_once_and_others_go_on(
    engine: ManualEngine,
) -> None:
    talker, other = engine.open(SETTINGS), engine.open(SETTINGS)
    for _ in range(3):
        for at in range(0, 470_000, 47_000):
            talker.hear(noise(47_000, at))
            await engine.rest()
        talker.cut(470_000)
    rounds = engine.shop.scheduler.rounds
    talker.hear(SPEECH[:2_000])
    await engine.rest()
    assert engine.shop.scheduler.rounds <= rounds + 2  # nothing is tried again and again
    committed = talker.commit("u1")
    assert isinstance((await ask(engine, talker)).error, ContextOverflow)
    await engine.settle()
    with pytest.raises(ContextOverflow):
        await committed
    talker.delete("u1")
    await check_is_well(engine, talker)
    await check_is_well(engine, other)


async def test_more_clips_than_ears(engine: ManualEngine) -> None:
    ears = engine.shop.device.ears
    talkers = [engine.open(SETTINGS) for _ in range(3)]
    while ears.free > 2:
        ears.take()
    for at in range(0, 20_000, 2_000):
        for n, talker in enumerate(talkers):
            # One after the other: each time somebody has to be listened to again.
            talker.hear(noise(20_000, n)[at : at + 2_000])
            await engine.rest()
    for n, talker in enumerate(talkers):
        talker.commit("u1")
        got = await ask(engine, talker)
        speech = encode_pcm16(noise(20_000, n))
        check_greedy(prompt_of([("user", [speech])], "Be brief."), got.tokens)


async def test_what_nobody_needs_holds_no_memory(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    await check_is_well(engine, conversation)
    [sound] = conversation._dialogue._record.sounds
    assert engine.shop.device.store.used_bytes > 0
    assert sound.samples == 20_000
    conversation.delete("well")
    await engine.settle()
    assert engine.shop.device.store.used_bytes == 0
    assert sound.samples == 0
    assert engine.shop.device.ears.free == engine.slots_planned
