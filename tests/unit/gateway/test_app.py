"""Which voice activity detector a server gets."""

from pathlib import Path

import pytest

from agent.config import ScorerName
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
