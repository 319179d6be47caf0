"""The judgements that one session waits for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.config import EngineName, Settings, TurnScorerName, TurnSettings
from agent.engine.branches import BranchKind
from agent.engine.contract import ConversationSettings, EngineHealth, EngineInfo
from agent.errors import ConfigError, EngineUnavailable
from agent.gateway.pauses import (
    ModelJudge,
    PauseScores,
    SoundJudge,
    check_turn_scorer,
    pause_judge,
)
from agent.gateway.services import Services
from agent.metrics import Metrics
from agent.session.outputs import DropScore, ScoreTurn
from tests.helpers.scripted_engine import ScriptedEngine, spoken


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
    scores = PauseScores(SoundJudge(hub), lambda *answer: delivered.append(answer))
    scores.execute(pause(3))
    await settle()
    hub.answers[3].set_result(0.5)
    await settle()
    assert delivered == [(3, 0.5)]


async def test_a_pause_that_is_skipped_is_not_delivered():
    hub, delivered = SlowHub(), []
    scores = PauseScores(SoundJudge(hub), lambda *answer: delivered.append(answer))
    scores.execute(pause(1))
    await settle()
    hub.answers[1].set_result(None)
    await settle()
    assert delivered == []


async def test_only_the_last_pause_is_waited_for_and_none_after_the_end():
    hub, delivered = SlowHub(), []
    scores = PauseScores(SoundJudge(hub), lambda *answer: delivered.append(answer))
    scores.execute(pause(1))
    await settle()
    scores.execute(pause(2))
    await settle()
    assert hub.answers[1].cancelled()
    scores.close()
    await settle()
    assert hub.answers[2].cancelled()
    assert delivered == []


async def test_a_pause_that_is_over_is_not_waited_for():
    hub, delivered = SlowHub(), []
    scores = PauseScores(SoundJudge(hub), lambda *answer: delivered.append(answer))
    scores.execute(pause(1))
    await settle()
    scores.execute(DropScore(1))
    await settle()
    assert hub.answers[1].cancelled()
    assert delivered == []


async def test_without_a_judge_nothing_happens():
    scores = PauseScores(None, lambda *answer: None)
    scores.execute(pause(1))
    scores.close()


class Behind(ScriptedEngine):
    """Has more to understand than it may have."""

    @property
    def health(self):
        return EngineHealth(backlog_s=60.0)


def services(engine=None, turns=None) -> Services:
    settings = Settings(turns=TurnSettings(scorer=TurnScorerName.MODEL))
    return Services(settings, engine or ScriptedEngine(), hub=None, metrics=Metrics(), turns=turns)


def counted(shared: Services, outcome: str) -> float:
    return shared.metrics.turn_scores.labels(outcome)._value.get()


def judged_by_model(shared: Services, options=None):
    conversation = ScriptedEngine(options).open(ConversationSettings())
    judge = pause_judge(shared, conversation)
    assert isinstance(judge, ModelJudge)
    delivered = []
    return conversation, delivered, PauseScores(judge, lambda *answer: delivered.append(answer))


async def test_the_model_says_it_of_what_it_has_heard_at_the_pause():
    shared = services()
    conversation, delivered, scores = judged_by_model(shared)
    conversation.hear(spoken(700))
    scores.execute(pause(1))
    conversation.hear(spoken(20))  # what comes now is another matter
    await settle()
    assert delivered == [(1, 0.7)]
    assert counted(shared, "made") == 1
    assert shared.metrics.turn_score_s._sum.get() >= 0


async def test_speech_that_goes_on_drops_the_branch(tmp_path: Path):
    shared, gate = services(), tmp_path / "gate"
    conversation, delivered, scores = judged_by_model(shared, {"gate": str(gate)})
    started = []
    branch_of = conversation.branch
    conversation.branch = lambda request: started.append(branch_of(request)) or started[-1]
    conversation.hear(spoken(700))
    scores.execute(pause(1))
    scores.close()  # before it has begun to be read
    scores.execute(pause(2))
    await settle()
    scores.close()
    await settle()
    assert [branch.ended for branch in started] == [True, True]
    assert delivered == []
    assert counted(shared, "made") == counted(shared, "failed") == 0


async def test_a_model_that_fails_leaves_the_fixed_wait():
    shared = services()
    conversation, delivered, scores = judged_by_model(shared)
    scores.execute(pause(1))  # nothing was heard
    await settle()

    def gone(request):
        assert request.kind is BranchKind.TURN_END
        raise EngineUnavailable("gone")

    conversation.branch = gone
    scores.execute(pause(2))
    await settle()
    assert delivered == []
    assert counted(shared, "failed") == 2


async def test_an_engine_that_is_behind_is_not_asked():
    shared = services(Behind())
    conversation, delivered, scores = judged_by_model(shared)
    conversation.hear(spoken(700))
    scores.execute(pause(1))
    await settle()
    assert delivered == []
    assert counted(shared, "skipped") == 1


async def test_who_judges():
    shared, conversation = services(), ScriptedEngine().open(ConversationSettings())
    assert isinstance(pause_judge(shared, conversation), ModelJudge)
    shared = Services(Settings(), ScriptedEngine(), hub=None, metrics=Metrics(), turns=SlowHub())
    assert isinstance(pause_judge(shared, conversation), SoundJudge)
    assert pause_judge(replace(shared, turns=None), conversation) is None


def test_a_model_that_cannot_judge_is_refused_by_name():
    settings = Settings(turns=TurnSettings(scorer=TurnScorerName.MODEL))
    with pytest.raises(ConfigError, match=r"turns\.scorer: .*`small` cannot say.*smart-turn"):
        check_turn_scorer(settings, EngineInfo("small", "m"))
    check_turn_scorer(settings, EngineInfo("gemma", "m", judges_turn_ends=True))
    check_turn_scorer(Settings(engine=EngineName.SMALL), EngineInfo("small", "m"))
