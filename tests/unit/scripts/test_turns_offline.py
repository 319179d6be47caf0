"""The offline benchmark: simulated time, judgements that come late, what is kept of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.audio.framing import FRAME_SAMPLES
from agent.config import Settings, TurnScorerName, TurnSettings
from scripts.turns_bench.judging import Judge
from scripts.turns_bench.observed import Observation
from scripts.turns_bench.offline import arrives_at, observe
from scripts.turns_bench.settings import turn_detections


class SureJudge(Judge):
    """Says the same of every pause, and notes what it was asked."""

    def __init__(self, finished: float, text: str | None = None) -> None:
        super().__init__(Settings(), words=text is not None)
        self.finished, self.text = finished, text
        self.heard: list[int] = []

    def sound(self, samples: np.ndarray) -> float:
        return self.finished

    def words(self, samples: np.ndarray) -> str:
        self.heard.append(samples.size)
        assert self.text is not None
        return self.text


def run(setting: str, judge: Judge) -> Observation:
    """A second of silence, two of speech, five of silence."""
    probabilities = np.zeros(250, np.float32)
    probabilities[31:94] = 1.0
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, 250 * FRAME_SAMPLES)
    detection = turn_detections("medium", 500)[setting]
    return observe(samples.astype(np.float32), probabilities, detection, Settings(), judge)


def silence_ms(seen: Observation) -> float:
    """How long the one turn waited."""
    (turn,) = seen.turns
    assert turn.end is not None
    return (turn.end - 94 * FRAME_SAMPLES) / 16


def test_samples_arrive_with_their_piece() -> None:
    assert [arrives_at(sample) for sample in (0, 1, 640, 641)] == [0.0, 0.04, 0.04, 0.08]


def test_a_fixed_silence_asks_nobody() -> None:
    seen = run("server_vad", SureJudge(0.99))
    assert silence_ms(seen) == 512
    (turn,) = seen.turns
    assert turn.ended_at == arrives_at((94 + 16) * FRAME_SAMPLES)
    assert seen.sent_at is not None
    assert seen.sent_at(94 * FRAME_SAMPLES) == arrives_at(94 * FRAME_SAMPLES)


def test_judgements_change_the_wait() -> None:
    assert silence_ms(run("semantic_vad", SureJudge(1.0))) < 400
    assert silence_ms(run("semantic_vad", SureJudge(0.0))) > 1_000


def test_words_are_those_of_the_open_clip() -> None:
    judge = SureJudge(0.5, "Go on.")
    run("semantic_vad", judge)
    # Pre-roll, two seconds of speech, the beginning of the pause.
    (heard,) = judge.heard
    assert 2 * 16_000 < heard < 3 * 16_000


def test_words_are_not_asked_for_unless_the_engine_hears_them() -> None:
    judge = SureJudge(0.5)
    run("semantic_vad", judge)
    assert judge.heard == []


def test_without_a_scorer_nothing_is_said_of_a_sound() -> None:
    settings = Settings(turns=TurnSettings(scorer=TurnScorerName.NONE))
    assert Judge(settings).sound(np.zeros(100, np.float32)) is None


def test_judgements_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Scorer:
        def __init__(self, path: Path) -> None:
            del path

        def score(self, samples: np.ndarray) -> float:
            asked.append(samples)
            return 0.25

    monkeypatch.setattr("scripts.turns_bench.judging.SmartTurnScorer", Scorer)
    monkeypatch.setattr("scripts.turns_bench.judging.smart_turn_path", lambda: tmp_path)
    settings = Settings(turns=TurnSettings(scorer=TurnScorerName.SMART_TURN))
    kept = tmp_path / "kept.json"
    for _ in range(2):
        judge = Judge(settings, kept=kept)
        assert judge.sound(np.ones(100, np.float32)) == 0.25
        judge.keep()
    assert len(asked) == 1
    assert list(json.loads(kept.read_text()).values()) == [0.25]
