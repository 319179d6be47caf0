"""Which detectors a server gets."""

from pathlib import Path

import pytest

from agent.config import ScorerName, TurnScorerName, TurnSettings
from agent.errors import ModelStoreError
from agent.gateway import app


class FakeStore:
    """Has Silero, or cannot fetch it."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def ensure(self, name: str, progress: object) -> Path:
        self.asked.append(name)
        if self.folder is None:
            raise ModelStoreError("offline")
        return self.folder


@pytest.fixture
def made(monkeypatch):
    """What scorers were made: (name, path of the network)."""
    calls: list[tuple[ScorerName, Path | None]] = []
    monkeypatch.setattr(
        app, "make_scorer", lambda name, silero_path=None: calls.append((name, silero_path))
    )
    return calls


def load(name: ScorerName, store: FakeStore) -> None:
    app.load_scorer(name, lambda what, fraction: None, store)


@pytest.mark.parametrize("name", [ScorerName.AUTO, ScorerName.CASCADE, ScorerName.SILERO])
def test_what_needs_the_network_gets_it_from_the_store(made, tmp_path, name):
    store = FakeStore(tmp_path)
    load(name, store)
    assert store.asked == ["silero-vad"]
    assert made == [(name, tmp_path / "silero_vad.onnx")]


def test_webrtc_needs_no_model(made):
    store = FakeStore(None)
    load(ScorerName.WEBRTC, store)
    assert store.asked == []
    assert made == [(ScorerName.WEBRTC, None)]


def test_auto_does_without_what_cannot_be_fetched(made):
    load(ScorerName.AUTO, FakeStore(None))
    assert made == [(ScorerName.WEBRTC, None)]


def test_auto_fetches_nothing_that_could_not_run(made, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    store = FakeStore(None)
    load(ScorerName.AUTO, store)
    assert store.asked == []
    assert made == [(ScorerName.AUTO, None)]


@pytest.mark.parametrize("name", [ScorerName.CASCADE, ScorerName.SILERO])
def test_what_was_asked_for_is_not_replaced(made, name):
    with pytest.raises(ModelStoreError, match="offline"):
        load(name, FakeStore(None))
    assert made == []


@pytest.fixture
def turn_scorers(monkeypatch):
    """The paths of the turn detectors that were made; whatever they need is installed."""
    paths: list[Path] = []
    monkeypatch.setattr(app, "SmartTurnScorer", lambda path: paths.append(path) or "scorer")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    return paths


def load_turns(name: TurnScorerName, store: FakeStore) -> object:
    return app.load_turn_scorer(TurnSettings(scorer=name), lambda what, fraction: None, store)


@pytest.mark.parametrize("name", [TurnScorerName.AUTO, TurnScorerName.SMART_TURN])
def test_the_turn_detector_comes_from_the_store(turn_scorers, tmp_path, name):
    store = FakeStore(tmp_path)
    assert load_turns(name, store) == "scorer"
    assert store.asked == ["smart-turn"]
    assert turn_scorers == [tmp_path / "smart-turn-v3.1-cpu.onnx"]


def test_turns_are_fixed_where_that_is_wanted(turn_scorers, tmp_path):
    store = FakeStore(tmp_path)
    assert load_turns(TurnScorerName.NONE, store) is None
    assert store.asked == turn_scorers == []


def test_turns_are_fixed_where_the_detector_cannot_be_fetched(turn_scorers):
    assert load_turns(TurnScorerName.AUTO, FakeStore(None)) is None
    with pytest.raises(ModelStoreError, match="offline"):
        load_turns(TurnScorerName.SMART_TURN, FakeStore(None))
    assert turn_scorers == []


def test_auto_fetches_no_turn_detector_that_could_not_run(turn_scorers, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    store = FakeStore(None)
    assert load_turns(TurnScorerName.AUTO, store) is None
    assert store.asked == []
