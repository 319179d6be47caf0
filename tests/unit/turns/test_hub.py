"""The threads that judge pauses."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from agent.metrics import Metrics
from agent.turns.hub import MAX_WAITING, TurnHub
from agent.turns.scorers import TurnScorer
from tests.helpers.patience import PATIENCE_S

PAUSE = np.zeros(16_000, np.float32)


class SlowScorer(TurnScorer):
    """Answers with the first sample, as soon as it may."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.began = threading.Event()
        self.asked: list[float] = []
        self.threads: set[int] = set()

    def score(self, samples):
        self.asked.append(float(samples[0]))
        self.threads.add(threading.get_ident())
        self.began.set()
        assert self.may_answer.wait(PATIENCE_S)
        if samples[0] < 0:
            raise ValueError("a broken model")
        return float(samples[0])


@pytest.fixture
def scorer():
    scorer = SlowScorer()
    yield scorer
    scorer.may_answer.set()


def counted(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("voice_agent_turn_scores_total", {"outcome": outcome})


async def test_pauses_are_scored_outside_the_loop(scorer):
    metrics = Metrics()
    hub = TurnHub(scorer, metrics)
    scorer.may_answer.set()
    assert await hub.score(PAUSE + np.float32(0.5)) == 0.5
    assert threading.get_ident() not in scorer.threads
    assert counted(metrics, "made") == 1
    assert metrics.registry.get_sample_value("voice_agent_turn_score_seconds_count") == 1
    hub.close()


async def test_what_is_too_much_is_left_out_at_once(scorer):
    metrics = Metrics()
    hub = TurnHub(scorer, metrics)
    scores = [asyncio.create_task(hub.score(PAUSE)) for _ in range(MAX_WAITING)]
    await asyncio.to_thread(scorer.began.wait, PATIENCE_S)
    assert await hub.score(PAUSE) is None
    assert counted(metrics, "skipped") == 1
    scorer.may_answer.set()
    assert await asyncio.gather(*scores) == [0.0] * MAX_WAITING
    assert await hub.score(PAUSE) == 0.0
    hub.close()


async def test_a_pause_nobody_waits_for_is_not_begun(scorer):
    metrics = Metrics()
    hub = TurnHub(scorer, metrics)
    first = asyncio.create_task(hub.score(PAUSE))
    await asyncio.to_thread(scorer.began.wait, PATIENCE_S)
    second = asyncio.create_task(hub.score(PAUSE + np.float32(0.25)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    scorer.may_answer.set()
    assert await first == 0.0
    hub.close()
    assert scorer.asked == [0.0]
    assert counted(metrics, "dropped") == counted(metrics, "made") == 1


async def test_a_model_that_fails_leaves_the_pause_unjudged(scorer):
    metrics = Metrics()
    hub = TurnHub(scorer, metrics)
    scorer.may_answer.set()
    assert await hub.score(PAUSE - np.float32(1)) is None
    assert counted(metrics, "failed") == 1
    assert await hub.score(PAUSE) == 0.0
    hub.close()


async def test_a_closed_hub_scores_nothing(scorer):
    hub = TurnHub(scorer, Metrics())
    hub.close()
    assert await hub.score(PAUSE) is None
    assert scorer.asked == []
