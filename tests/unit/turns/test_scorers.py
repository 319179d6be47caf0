"""What the turn detector does without its model."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from agent.config import TurnScorerName
from agent.errors import ConfigError, ModelStoreError
from agent.turns import scorers
from agent.turns.scorers import TURN_SAMPLES, SmartTurnScorer, can_run


class FakeNetwork:
    """Answers 0.75 and keeps what it was given."""

    def run(self, names, inputs):
        self.features = inputs["input_features"]
        return [np.array([[0.75]], np.float32)]


@pytest.fixture
def smart_turn():
    scorer = SmartTurnScorer.__new__(SmartTurnScorer)
    scorer._session = FakeNetwork()
    return scorer


@pytest.mark.parametrize("samples", [1, 700, TURN_SAMPLES - 1, TURN_SAMPLES, TURN_SAMPLES + 999])
def test_the_network_gets_the_last_eight_seconds(smart_turn, monkeypatch, samples):
    windows = []
    monkeypatch.setattr(
        scorers, "whisper_log_mel", lambda window: windows.append(window) or np.zeros((80, 800))
    )
    monkeypatch.setattr(scorers, "quieter", lambda turn: turn)
    heard = np.arange(1, samples + 1, dtype=np.float32)

    assert smart_turn.score(heard) == 0.75

    (window,) = windows
    kept = min(samples, TURN_SAMPLES)
    assert len(window) == TURN_SAMPLES
    assert np.array_equal(window[TURN_SAMPLES - kept :], heard[samples - kept :])
    assert not window[: TURN_SAMPLES - kept].any()
    assert smart_turn._session.features.shape == (1, 80, 800)


def turn(noise_level: float, count: int = 32_000) -> np.ndarray:
    """Two seconds over a noise, the last 200 ms of them noise alone."""
    rng = np.random.default_rng(0)
    voice = 0.1 * rng.standard_normal(count)
    voice[-3_200:] = 0
    return (voice + noise_level * rng.standard_normal(count)).astype(np.float32)


def test_a_turn_over_noise_is_judged_with_less_of_it():
    heard = turn(0.03)
    quiet = scorers.quieter(heard)
    assert len(quiet) == len(heard)
    assert np.std(quiet[-3_000:]) < 0.5 * np.std(heard[-3_000:])


@pytest.mark.parametrize("heard", [turn(0.0), turn(0.003), turn(0.03, 5_000), turn(0.03, 1)])
def test_a_turn_in_a_quiet_room_and_one_too_short_to_tell_are_judged_as_they_are(heard):
    assert scorers.quieter(heard) is heard


@pytest.mark.parametrize("silence", [1, 500, 2_047, 2_048, 3_071])
def test_a_turn_that_has_just_fallen_silent_sounds_as_if_it_had_been_for_longer(silence):
    heard = np.arange(1, 10_001, dtype=np.float32)
    judged = scorers.as_in_pause(heard, silence)
    assert len(judged) == len(heard) - silence + 3_072
    assert np.array_equal(judged[: len(heard)], heard)
    assert set(judged[len(heard) :]) <= set(heard[-silence:])


@pytest.mark.parametrize("silence", [3_072, 3_073, 9_000])
def test_a_turn_that_has_been_silent_for_long_enough_is_judged_as_it_is(silence):
    heard = np.ones(10_000, np.float32)
    assert scorers.as_in_pause(heard, silence) is heard


def test_silence_that_is_longer_than_what_was_kept_is_all_there_is():
    judged = scorers.as_in_pause(np.ones(512, np.float32), 2_048)
    assert len(judged) == 512 + 3_072 - 2_048


def test_a_silence_made_longer_is_at_the_end_of_the_window():
    heard = np.arange(TURN_SAMPLES, dtype=np.float32)
    judged = scorers.as_in_pause(heard, 2_048)
    assert len(judged) == TURN_SAMPLES
    assert judged[0] == 1_024


def test_a_missing_file_is_named(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ModelStoreError, match=str(tmp_path)):
        SmartTurnScorer(tmp_path / "nothing.onnx")


def test_without_onnxruntime_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"turns\.scorer: .* pip install"):
        SmartTurnScorer(tmp_path / "nothing.onnx")


def test_auto_runs_where_its_library_is(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not can_run(TurnScorerName.AUTO)
    assert can_run(TurnScorerName.SMART_TURN)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert can_run(TurnScorerName.AUTO)
    assert not can_run(TurnScorerName.NONE)
