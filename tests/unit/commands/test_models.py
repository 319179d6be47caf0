"""`voice-agent models` on a store in a temporary folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli import app
from agent.commands import models
from agent.models.catalogue import Model, ModelFile, Pin
from agent.models.progress import Meter
from agent.models.sources import SourceFailed
from agent.models.staging import Staging
from agent.models.store import ModelStore

CONTENT = b"weights"
TINY = Model(
    name="tiny",
    description="A model of seven bytes",
    licence="MIT",
    files=(
        ModelFile("model.bin", Pin(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)), members=()),
    ),
)
runner = CliRunner()


class Shelf:
    """A source that has the tiny model, or is unreachable."""

    reachable = True

    def fetch(
        self, model: Model, files: Sequence[ModelFile], staging: Staging, meter: Meter
    ) -> None:
        if not self.reachable:
            raise SourceFailed("the shelf is out of reach")
        for file in files:
            meter.show("taking it from the shelf", 0)
            staging.partial(file.pin).write_bytes(CONTENT)
            staging.accept(file.pin)
            meter.finish(file.pin.size_bytes)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shelf: Shelf) -> ModelStore:
    made = ModelStore(tmp_path, catalogue={"tiny": TINY}, sources=[shelf])
    monkeypatch.setattr(models, "ModelStore", lambda: made)
    return made


def test_list_shows_what_is_here(store: ModelStore) -> None:
    before = runner.invoke(app, ["models", "list"])
    store.pull("tiny")
    after = runner.invoke(app, ["models", "list"])
    assert before.stdout == "tiny\t0 MB\tMIT\tno\tA model of seven bytes\n"
    assert after.stdout == "tiny\t0 MB\tMIT\tyes\tA model of seven bytes\n"


def test_pull_prints_the_folder_and_shows_progress_elsewhere(store: ModelStore) -> None:
    result = runner.invoke(app, ["models", "pull", "tiny"])
    assert result.exit_code == 0
    assert result.stdout == f"{store.path('tiny')}\n"
    assert "tiny: taking it from the shelf 0%" in result.stderr
    assert runner.invoke(app, ["models", "path", "tiny"]).stdout == result.stdout


def test_pull_of_an_unknown_model_fetches_nothing(store: ModelStore) -> None:
    result = runner.invoke(app, ["models", "pull", "tiny", "huge"])
    assert result.exit_code == 1
    assert "no model called 'huge'" in result.stderr
    assert not store.has("tiny")


def test_a_pull_that_fails_says_what_to_do(shelf: Shelf) -> None:
    shelf.reachable = False
    result = runner.invoke(app, ["models", "pull", "tiny"])
    assert result.exit_code == 1
    assert "shelf is out of reach" in result.stderr
    assert "voice-agent models pull tiny" in result.stderr


def test_path_of_a_model_that_is_not_here() -> None:
    result = runner.invoke(app, ["models", "path", "tiny"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "models pull tiny" in result.stderr


def test_verify_finds_what_is_wrong_and_says_how_to_repair_it(store: ModelStore) -> None:
    assert "No models are here yet" in runner.invoke(app, ["models", "verify"]).stdout
    folder = store.pull("tiny")
    whole = runner.invoke(app, ["models", "verify"])
    assert (whole.exit_code, whole.stdout) == (0, "tiny: all files are as they should be\n")
    (folder / "model.bin").write_bytes(b"weighty")
    broken = runner.invoke(app, ["models", "verify"])
    assert broken.exit_code == 1
    assert "tiny: model.bin has SHA-256" in broken.stdout
    assert "voice-agent models pull tiny" in broken.stdout
    (folder / "model.bin").write_bytes(b"cut")
    cut = runner.invoke(app, ["models", "verify"])
    assert (cut.exit_code, "tiny: model.bin" in cut.stdout) == (1, True)
