"""Which engine a server runs, and how it is set up."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import structlog

from agent.config import EngineName, Settings
from agent.engine.child import EngineSpec
from agent.engine.gemma.options import GemmaOptions
from agent.engine.small.options import INFO, SmallOptions
from agent.engine.supervisor import EngineSupervisor
from agent.errors import ConfigError

log = structlog.get_logger(__name__)

GEMMA_PACKAGES = ("torch", "transformers")
INSTALL_GEMMA = "install it with `pip install 'voice-agent[gemma]'`"
NAME_A_MODEL = "name one, for example `--model google/gemma-4-E2B-it`, or a folder"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which engine would run.

    Attributes:
        engine: Never `AUTO`.
        reason: Why, in words for people.
        model: Folder or hub name of the checkpoint; None for an engine with models of its own.
    """

    engine: EngineName
    reason: str
    model: str | None = None


def choose_engine(settings: Settings, environment: Mapping[str, str] = os.environ) -> Choice:
    """Which engine the settings ask for; `auto` never asks for one that must be downloaded.

    A checkpoint that merely lies on this machine chooses an engine only if that can run here.
    """
    checkpoint = settings.model or find_checkpoint(environment)
    if settings.engine is EngineName.SMALL:
        return Choice(EngineName.SMALL, "it was asked for")
    if settings.engine is EngineName.GEMMA:
        return Choice(EngineName.GEMMA, "it was asked for", checkpoint)
    if settings.model is not None:
        reason = f"the model {settings.model} was asked for"
        return Choice(EngineName.GEMMA, reason, settings.model)
    if checkpoint is None:
        return Choice(EngineName.SMALL, "no Gemma 4 was asked for or is on this machine")
    if missing := _missing_packages():
        reason = f"{checkpoint} is on this machine, but {missing} is not: {INSTALL_GEMMA}"
        return Choice(EngineName.SMALL, reason)
    return Choice(EngineName.GEMMA, f"{checkpoint} is on this machine", checkpoint)


def select_engine(settings: Settings) -> EngineSupervisor:
    """The engine for these settings, not started.

    Raises:
        ConfigError: They ask for an engine that cannot be had.
    """
    choice = choose_engine(settings)
    if choice.engine is EngineName.GEMMA:
        if choice.model is None:
            raise ConfigError(f"model: no Gemma 4 is on this machine; {NAME_A_MODEL}")
        # What is no path is a name on the hub, which only the hub knows.
        if choice.model.startswith(("/", "./", "../", "~")) and not Path(choice.model).is_dir():
            raise ConfigError(
                f"model: there is no folder {choice.model}; give a folder with a checkpoint, "
                "or a name on the hub such as google/gemma-4-E2B-it"
            )
        if missing := _missing_packages():
            raise ConfigError(f"engine: {choice.reason}, but needs {missing}; {INSTALL_GEMMA}")
        spec = gemma_spec(settings, choice.model)
    elif settings.model is not None:
        raise ConfigError("model: the engine `small` has no other model; leave `model` out")
    else:
        spec = small_spec(settings)
    log.info("engine chosen", engine=choice.engine, reason=choice.reason)
    return EngineSupervisor(spec, settings.engine_process)


def gemma_spec(settings: Settings, model: str) -> EngineSpec:
    """How the process of the resident engine is started."""
    options = GemmaOptions(
        model=model, max_output_tokens=settings.max_output_tokens, **settings.gemma.model_dump()
    )
    # What it does it reports itself: bars of libraries would end up in the log.
    environment = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
    return EngineSpec(
        "agent.engine.gemma.engine:create", options.to_json(), options.info, environment
    )


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
    environment = {
        # Threads that have nothing to do sleep: spinning, they would take audio's core.
        "OMP_WAIT_POLICY": "PASSIVE",
        # oneDNN keeps its last 1,024 compiled steps, and each length of a clip has eight of its
        # own, 0.9 MB together: memory grew by 1 MB with every clip. To make them takes 1 ms.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16",
    }
    info = replace(
        INFO, context_tokens=small.context_tokens, answers_at_once=small.parallel_answers
    )
    return EngineSpec(
        "agent.engine.small:create", options.to_json(), info, environment, settings.small.nice
    )


def find_checkpoint(environment: Mapping[str, str] = os.environ) -> str | None:
    """Name of a Gemma 4 that hears, in the Hugging Face cache; no network is used.

    Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    for config in sorted(_hub_cache(environment).glob("models--google--gemma-4-*/snapshots/*/")):
        if _hears(config / "config.json"):
            return config.parent.parent.name.removeprefix("models--").replace("--", "/")
    return None


def _missing_packages() -> str:
    """What the resident engine needs and is not installed, in words; empty when all is."""
    return " and ".join(name for name in GEMMA_PACKAGES if find_spec(name) is None)


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
