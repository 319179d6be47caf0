from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.config import EngineName, Settings
from agent.engine.factory import choose_engine, find_checkpoint, select_engine, small_spec
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


@pytest.mark.parametrize(
    "settings",
    [
        Settings(model="google/gemma-4-E2B-it"),
        Settings(engine=EngineName.GEMMA),
        Settings(engine=EngineName.GEMMA, model="./checkpoint"),
    ],
)
def test_gemma_is_refused_in_plain_words(settings: Settings, empty: dict[str, str]) -> None:
    assert choose_engine(settings, empty).engine is EngineName.GEMMA
    with pytest.raises(ConfigError, match="no engine for Gemma 4 yet"):
        select_engine(settings)


def test_a_model_that_small_cannot_load_is_refused(empty: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="model"):
        select_engine(Settings(engine=EngineName.SMALL, model="x"))


def test_a_checkpoint_that_lies_here_is_told_about(tmp_path: Path, empty: dict[str, str]) -> None:
    put_checkpoint(tmp_path, "google/gemma-4-E2B-it", {"audio_config": {"x": 1}})
    choice = choose_engine(Settings(), empty)
    assert choice.engine is EngineName.SMALL
    assert "google/gemma-4-E2B-it" in choice.reason


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
        small={"context_tokens": 1024, "recognition_threads": 3},
    )
    spec = small_spec(settings)
    engine = create(json.loads(json.dumps(spec.options)))
    assert spec.factory == "agent.engine.small:create"
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
