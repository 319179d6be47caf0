"""The judgements that one session waits for."""

from __future__ import annotations

import asyncio

import numpy as np

from agent.gateway.pauses import PauseScores
from agent.session.items import ScoreTurn


class SlowHub:
    """Answers when told to."""

    def __init__(self) -> None:
        self.answers: dict[float, asyncio.Future[float | None]] = {}

    async def score(self, samples):
        answer = asyncio.get_running_loop().create_future()
        self.answers[float(samples[0])] = answer
        return await answer


def pause(number: int) -> ScoreTurn:
    return ScoreTurn(number, np.full(512, number, np.float32))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_answer_is_delivered_with_its_number():
    hub, delivered = SlowHub(), []
    scores = PauseScores(hub, lambda *answer: delivered.append(answer))
    scores.start(pause(3))
    await settle()
    hub.answers[3].set_result(0.5)
    await settle()
    assert delivered == [(3, 0.5)]


async def test_a_pause_that_is_skipped_is_not_delivered():
    hub, delivered = SlowHub(), []
    scores = PauseScores(hub, lambda *answer: delivered.append(answer))
    scores.start(pause(1))
    await settle()
    hub.answers[1].set_result(None)
    await settle()
    assert delivered == []


async def test_only_the_last_pause_is_waited_for_and_none_after_the_end():
    hub, delivered = SlowHub(), []
    scores = PauseScores(hub, lambda *answer: delivered.append(answer))
    scores.start(pause(1))
    await settle()
    scores.start(pause(2))
    await settle()
    assert hub.answers[1].cancelled()
    scores.close()
    await settle()
    assert hub.answers[2].cancelled()
    assert delivered == []


async def test_without_a_hub_nothing_happens():
    scores = PauseScores(None, lambda *answer: None)
    scores.start(pause(1))
    scores.close()
