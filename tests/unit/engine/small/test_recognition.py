from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from agent.audio.pcm import Samples
from agent.engine.small.recognition import RecognitionQueue, Speaker, Urgency
from agent.errors import EngineError
from tests.helpers.patience import PATIENCE_S
from tests.helpers.small_engine import FakeEar


def word(number: int) -> Samples:
    return np.full(1600, number / 1000, np.float32)


@pytest.fixture
async def ear() -> FakeEar:
    return FakeEar(held=True)


@pytest.fixture
async def queue(ear: FakeEar) -> AsyncIterator[RecognitionQueue]:
    queue = RecognitionQueue(ear)
    queue.start()
    yield queue
    ear.allow(100)
    await queue.stop()


async def occupy(queue: RecognitionQueue, ear: FakeEar) -> None:
    """Give the thread a clip, so that what follows waits."""
    queue.submit(Speaker(), word(999), Urgency.COMMITTED)
    assert await asyncio.to_thread(ear.begun.acquire, timeout=PATIENCE_S)


async def test_urgent_work_goes_first(queue: RecognitionQueue, ear: FakeEar) -> None:
    await occupy(queue, ear)
    ann, ben, cem = Speaker(), Speaker(), Speaker()
    early = queue.submit(ann, word(1), Urgency.EARLY)
    closed = queue.submit(ben, word(2), Urgency.CLOSED)
    urgent = queue.submit(cem, word(3), Urgency.COMMITTED)
    ear.allow(4)
    await asyncio.wait([early.heard, closed.heard, urgent.heard])
    assert [one[0] for one in ear.heard] == ["999", "3", "2", "1"]


async def test_speakers_take_turns(queue: RecognitionQueue, ear: FakeEar) -> None:
    await occupy(queue, ear)
    ann, ben = Speaker(), Speaker()
    waiting = [queue.submit(ann, word(n), Urgency.COMMITTED) for n in (11, 12)]
    waiting += [queue.submit(ben, word(n), Urgency.COMMITTED) for n in (21, 22)]
    ear.allow(5)
    await asyncio.wait([one.heard for one in waiting])
    assert [one[0] for one in ear.heard] == ["999", "11", "21", "12", "22"]


async def test_what_waits_can_become_urgent_but_not_less_so(
    queue: RecognitionQueue, ear: FakeEar
) -> None:
    await occupy(queue, ear)
    early = queue.submit(Speaker(), word(1), Urgency.EARLY)
    closed = queue.submit(Speaker(), word(2), Urgency.CLOSED)
    queue.hurry(early, Urgency.COMMITTED)
    queue.hurry(early, Urgency.CLOSED)
    assert early.committed_s == 0.1
    ear.allow(3)
    await asyncio.wait([early.heard, closed.heard])
    assert [one[0] for one in ear.heard] == ["999", "1", "2"]
    assert early.committed_s == 0


async def test_what_is_dropped_before_it_began_is_never_heard(
    queue: RecognitionQueue, ear: FakeEar
) -> None:
    await occupy(queue, ear)
    dropped = queue.submit(Speaker(), word(1), Urgency.EARLY)
    kept = queue.submit(Speaker(), word(2), Urgency.EARLY)
    queue.drop(dropped)
    ear.allow(3)
    assert (await kept.heard).text == "2"
    assert dropped.heard.cancelled()
    assert "1" not in [one[0] for one in ear.heard]


async def test_what_has_begun_cannot_be_dropped(queue: RecognitionQueue, ear: FakeEar) -> None:
    running = queue.submit(Speaker(), word(1), Urgency.EARLY)
    assert await asyncio.to_thread(ear.begun.acquire, timeout=PATIENCE_S)
    queue.drop(running)
    ear.allow()
    assert (await running.heard).text == "1"
    queue.drop(running)


async def test_one_bad_clip_fails_alone(queue: RecognitionQueue, ear: FakeEar) -> None:
    ear.allow(3)
    bad = [queue.submit(Speaker(), word(n), Urgency.EARLY) for n in (13, 14)]
    good = queue.submit(Speaker(), word(1), Urgency.EARLY)
    assert (await good.heard).text == "1"
    with pytest.raises(EngineError, match="unlucky"):
        await bad[0].heard
    with pytest.raises(EngineError, match="RuntimeError"):
        await bad[1].heard


async def test_a_speaker_is_expected_to_go_on_in_the_same_language(
    queue: RecognitionQueue, ear: FakeEar
) -> None:
    speaker = Speaker()
    ear.allow(2)
    await queue.submit(speaker, word(1), Urgency.EARLY).heard
    await queue.submit(speaker, word(2), Urgency.EARLY).heard
    assert ear.heard == [("1", 1600, None), ("2", 1600, "xx")]


async def test_stopping_drops_what_waits(ear: FakeEar) -> None:
    queue = RecognitionQueue(ear)
    queue.start()
    await occupy(queue, ear)
    waiting = queue.submit(Speaker(), word(1), Urgency.EARLY)
    ear.allow()
    await queue.stop()
    assert waiting.heard.cancelled()
