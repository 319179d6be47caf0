"""Which engine a server runs, and how it is set up."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from agent.config import EngineName, Settings
from agent.engine.child import EngineSpec
from agent.engine.small.options import INFO, SmallOptions
from agent.engine.supervisor import EngineSupervisor
from agent.errors import ConfigError

log = structlog.get_logger(__name__)

NO_GEMMA = "this version has no engine for Gemma 4 yet"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which engine would run.

    Attributes:
        engine: Never `AUTO`.
        reason: Why, in words for people.
    """

    engine: EngineName
    reason: str


def choose_engine(settings: Settings, environment: Mapping[str, str] = os.environ) -> Choice:
    """Which engine the settings ask for; `auto` never asks for one that must be downloaded.

    A checkpoint that merely lies on this machine does not choose an engine that this version
    does not have; asking for one does, and is then refused by `select_engine`.
    """
    if settings.engine is not EngineName.AUTO:
        return Choice(settings.engine, "it was asked for")
    if settings.model is not None:
        return Choice(EngineName.GEMMA, f"the model {settings.model} was asked for")
    checkpoint = find_checkpoint(environment)
    if checkpoint is not None:
        return Choice(EngineName.SMALL, f"{checkpoint} is on this machine, but {NO_GEMMA}")
    return Choice(EngineName.SMALL, "no Gemma 4 was asked for or is on this machine")


def select_engine(settings: Settings) -> EngineSupervisor:
    """The engine for these settings, not started.

    Raises:
        ConfigError: They ask for an engine that cannot be had.
    """
    choice = choose_engine(settings)
    if choice.engine is EngineName.GEMMA:
        raise ConfigError(
            f"engine: {choice.reason}, but {NO_GEMMA}; leave `model` out and set `engine` to"
            " `small` for the embedded demo engine"
        )
    if settings.model is not None:
        raise ConfigError("model: the engine `small` has no other model; leave `model` out")
    log.info("engine chosen", engine=choice.engine, reason=choice.reason)
    return EngineSupervisor(small_spec(settings), settings.engine_process)


def small_spec(settings: Settings) -> EngineSpec:
    """How the process of the embedded engine is started."""
    small = settings.small
    options = SmallOptions(
        recognition_threads=small.recognition_threads,
        language_threads=small.language_threads,
        context_tokens=small.context_tokens,
        parallel_answers=small.parallel_answers,
        prompt_cache_mib=small.prompt_cache_mib,
        temperature=settings.temperature,
        max_output_tokens=settings.max_output_tokens,
    )
    # Threads that have nothing to do sleep: spinning, they would take audio's core.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"}
    info = replace(INFO, context_tokens=small.context_tokens)
    return EngineSpec("agent.engine.small:create", options.to_json(), info, environment)


def find_checkpoint(environment: Mapping[str, str] = os.environ) -> str | None:
    """Name of a Gemma 4 that hears, in the Hugging Face cache; no network is used.

    Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    for config in sorted(_hub_cache(environment).glob("models--google--gemma-4-*/snapshots/*/")):
        if _hears(config / "config.json"):
            return config.parent.parent.name.removeprefix("models--").replace("--", "/")
    return None


def _hub_cache(environment: Mapping[str, str]) -> Path:
    if cache := environment.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    if home := environment.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"


def _hears(config: Path) -> bool:
    """Whether a checkpoint's configuration has an audio encoder."""
    try:
        return json.loads(config.read_text(encoding="utf-8")).get("audio_config") is not None
    except (OSError, ValueError, AttributeError):
        return False
