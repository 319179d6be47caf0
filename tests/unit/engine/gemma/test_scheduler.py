"""Who gets the next step: nobody waits for long, and nobody is left waiting."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.engine.branches import BranchKind, BranchRequest, Limits  # noqa: E402
from agent.engine.contract import ConversationSettings  # noqa: E402
from agent.engine.gemma.rows import Kind, Work  # noqa: E402
from agent.engine.items import Item, Role, Text  # noqa: E402
from tests.helpers.gemma_engine import ManualEngine, read  # noqa: E402
from tests.helpers.noise import noise  # noqa: E402

torch.set_num_threads(1)
SETTINGS = ConversationSettings("Be brief.")
LONG = BranchRequest(BranchKind.ANSWER, limits=Limits(max_output_tokens=40, temperature=0))


@pytest.fixture
async def engine() -> AsyncIterator[ManualEngine]:
    engine = ManualEngine(slots=24)
    await engine.start()
    yield engine
    await engine.stop()


def watch(engine: ManualEngine) -> list[tuple[Kind, int]]:
    """Every step from now on: its kind and its rows."""
    device, steps = engine.shop.device, []
    run = device.run

    def noted(kind: Kind, works: Sequence[Work]) -> None:
        steps.append((kind, len(works)))
        run(kind, works)

    device.run = noted  # type: ignore[method-assign,assignment]
    return steps


def history(tokens: int) -> list[Item]:
    return [Item("h", Role.USER, (Text("x" * tokens),))]


async def test_answers_go_on_while_others_are_heard_and_read_back(engine: ManualEngine) -> None:
    talker, listener = engine.open(SETTINGS), engine.open(SETTINGS)
    listener.insert(Item("t", Role.USER, (Text("Count."),)))
    await engine.settle()
    steps = watch(engine)
    branch = listener.branch(LONG)
    engine.round()
    rebuilt = [engine.open(SETTINGS, history(1_200)) for _ in range(10)]
    talker.hear(noise(80_000))
    assert len(rebuilt) == 10
    await engine.rest()
    kinds = [kind for kind, _ in steps]
    decoded = [place for place, kind in enumerate(kinds) if kind is Kind.DECODE]
    assert kinds.count(Kind.READ) > 20
    assert kinds.count(Kind.HEAR) >= 15
    # Between two tokens there is one step of each other kind at most, as long as it decodes.
    between = [kinds[a + 1 : b] for a, b in itertools.pairwise(decoded)]
    assert max(map(len, between)) <= 2
    assert all(len(set(others)) == len(others) for others in between)
    assert (await read(branch)).error is None


async def test_more_than_fit_into_a_step_are_all_served(engine: ManualEngine) -> None:
    crowd = [engine.open(SETTINGS, history(600)) for _ in range(11)]
    steps = watch(engine)
    await engine.settle()
    reads = [rows for kind, rows in steps if kind is Kind.READ]
    assert max(reads) == 8
    for conversation in crowd:
        [resident] = engine.shop.residency.of(conversation._dialogue)
        assert len(resident.held) > 600


async def test_the_end_of_a_prompt_comes_before_everything_else(engine: ManualEngine) -> None:
    reader, writer = engine.open(SETTINGS, history(1_500)), engine.open(SETTINGS)
    writer.insert(Item("t", Role.USER, (Text("Count."),)))
    await engine.settle()
    reader.configure(ConversationSettings("Be long."))  # all is to be read again
    reader._post(reader._dialogue.be_due)
    engine.round()
    steps = watch(engine)
    branch = writer.branch(LONG)
    for _ in range(4):
        engine.round()
    kinds = [kind for kind, _ in steps]
    # What the template writes behind the words is what is missing.
    assert kinds[0] is Kind.CLOSE or kinds[:2] == [Kind.READ, Kind.DECODE]
    await engine.rest()
    assert (await read(branch)).error is None


async def test_a_command_takes_effect_before_the_next_step(engine: ManualEngine) -> None:
    conversation = engine.open(SETTINGS)
    conversation.insert(Item("t", Role.USER, (Text("Count."),)))
    branch = conversation.branch(LONG)
    for _ in range(4):
        engine.round()
    steps = watch(engine)
    branch.cancel()
    engine.round()
    assert Kind.DECODE not in [kind for kind, _ in steps]


async def test_the_thread_ends_when_told_and_faults_are_reported() -> None:
    engine = ManualEngine()
    await engine.start()
    scheduler = engine.shop.scheduler
    told: list[BaseException] = []
    scheduler.start(told.append)
    conversation = engine.open(SETTINGS)
    conversation.insert(Item("t", Role.USER, (Text("Count."),)))
    assert (await read(conversation.branch(LONG))).error is None
    await asyncio.to_thread(scheduler.stop)
    assert told == []

    def lost(*_: Any) -> bool:
        raise torch.AcceleratorError("the device is lost")

    scheduler.round = lost  # type: ignore[method-assign]
    scheduler.start(told.append)
    await asyncio.to_thread(scheduler.stop)
    assert [type(error) for error in told] == [torch.AcceleratorError]
    await engine.stop()
