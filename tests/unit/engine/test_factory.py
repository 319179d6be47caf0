from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.config import EngineName, Settings
from agent.engine import factory
from agent.engine.factory import (
    choose_engine,
    find_checkpoint,
    gemma_spec,
    select_engine,
    small_spec,
)
from agent.engine.gemma.options import GemmaOptions
from agent.engine.small import create
from agent.engine.supervisor import EngineState
from agent.errors import ConfigError


def put_checkpoint(cache: Path, name: str, config: object) -> None:
    folder = cache / f"models--{name.replace('/', '--')}" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    return {"HF_HUB_CACHE": str(tmp_path)}


def test_auto_is_the_embedded_engine_on_a_fresh_machine(empty: dict[str, str]) -> None:
    assert choose_engine(Settings(), empty).engine is EngineName.SMALL
    engine = select_engine(Settings())
    assert engine.info.name == "small"
    assert "scripts/serve --model google/gemma-4-E2B-it" in engine.info.note
    assert engine.state is EngineState.STARTING


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "GEMMA_PACKAGES", ())


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "GEMMA_PACKAGES", ("no_such_package",))


@pytest.mark.parametrize(
    "settings",
    [
        Settings(model="google/gemma-4-E2B-it"),
        Settings(engine=EngineName.GEMMA, model="google/gemma-4-E2B-it"),
    ],
)
def test_a_model_is_for_gemma(settings: Settings, empty: dict[str, str], installed: None) -> None:
    assert choose_engine(settings, empty).engine is EngineName.GEMMA
    engine = select_engine(settings)
    assert engine.info.name == "gemma"
    assert engine.info.model == "google/gemma-4-E2B-it"
    assert engine.info.note == ""


def test_gemma_without_a_model_says_how_to_name_one(empty: dict[str, str], installed: None) -> None:
    with pytest.raises(ConfigError, match="--model google/gemma-4-E2B-it"):
        select_engine(Settings(engine=EngineName.GEMMA))


@pytest.mark.parametrize("where", ["/no/such/folder", "./nothing", "~/nothing"])
def test_a_folder_that_is_not_there_is_said_at_once(where: str, installed: None) -> None:
    with pytest.raises(ConfigError, match=f"model: there is no folder {where}"):
        select_engine(Settings(model=where))


def test_gemma_without_its_packages_says_what_to_install(
    empty: dict[str, str], not_installed: None
) -> None:
    with pytest.raises(ConfigError, match=r"no_such_package; .*voice-agent\[gemma\]"):
        select_engine(Settings(model="google/gemma-4-E2B-it"))


def test_a_model_that_small_cannot_load_is_refused(empty: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="model"):
        select_engine(Settings(engine=EngineName.SMALL, model="x"))


def test_a_checkpoint_that_lies_here_is_taken(
    tmp_path: Path, empty: dict[str, str], installed: None
) -> None:
    put_checkpoint(tmp_path, "google/gemma-4-E2B-it", {"audio_config": {"x": 1}})
    choice = choose_engine(Settings(), empty)
    assert choice.engine is EngineName.GEMMA
    assert choice.model == "google/gemma-4-E2B-it"
    assert choose_engine(Settings(engine=EngineName.SMALL), empty).engine is EngineName.SMALL
    assert select_engine(Settings(engine=EngineName.GEMMA)).info.model == "google/gemma-4-E2B-it"


def test_a_checkpoint_that_cannot_run_here_is_told_about(
    tmp_path: Path, empty: dict[str, str], not_installed: None
) -> None:
    put_checkpoint(tmp_path, "google/gemma-4-E2B-it", {"audio_config": {"x": 1}})
    choice = choose_engine(Settings(), empty)
    assert choice.engine is EngineName.SMALL
    assert "google/gemma-4-E2B-it" in choice.reason
    assert "no_such_package" in choice.reason


def test_a_folder_is_called_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "my-gemma"
    folder.mkdir()
    spec = gemma_spec(Settings(max_output_tokens=9, gemma={"slots": 3}), str(folder))
    assert spec.factory == "agent.engine.gemma.engine:create"
    assert spec.info.model == "my-gemma"
    options = GemmaOptions(**json.loads(json.dumps(spec.options)))
    assert options.model == str(folder)
    assert (options.slots, options.max_output_tokens) == (3, 9)
    assert options.context_tokens == Settings().gemma.context_tokens


@pytest.mark.parametrize("config", [{}, {"audio_config": None}, [], "text"])
def test_a_checkpoint_that_does_not_hear_does_not_count(tmp_path: Path, config: object) -> None:
    put_checkpoint(tmp_path, "google/gemma-4-31B-it", config)
    assert find_checkpoint({"HF_HUB_CACHE": str(tmp_path)}) is None


def test_checkpoints_are_looked_for_where_the_hub_keeps_them(tmp_path: Path) -> None:
    put_checkpoint(tmp_path / "hub", "google/gemma-4-E4B-it", {"audio_config": {}})
    put_checkpoint(tmp_path / "huggingface" / "hub", "google/gemma-4-E2B", {"audio_config": {}})
    assert find_checkpoint({"HF_HOME": str(tmp_path)}) == "google/gemma-4-E4B-it"
    assert find_checkpoint({"XDG_CACHE_HOME": str(tmp_path)}) == "google/gemma-4-E2B"
    assert find_checkpoint({"HF_HOME": str(tmp_path / "nothing")}) is None


def test_the_settings_reach_the_engine_in_its_process() -> None:
    settings = Settings(
        temperature=0.1,
        max_output_tokens=9,
        small={"context_tokens": 1024, "recognition_threads": 3, "nice": 7},
    )
    spec = small_spec(settings)
    engine = create(json.loads(json.dumps(spec.options)))
    assert spec.factory == "agent.engine.small:create"
    assert spec.nice == 7
    assert engine.info.context_tokens == 1024
    assert dict(spec.options) == {
        "recognition_threads": 3,
        "language_threads": None,
        "context_tokens": 1024,
        "parallel_answers": settings.small.parallel_answers,
        "prompt_cache_mib": settings.small.prompt_cache_mib,
        "temperature": 0.1,
        "max_output_tokens": 9,
        "recogniser_folder": None,
        "language_model_file": None,
    }
