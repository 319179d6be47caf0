"""Open a Gemma 4 checkpoint: a folder or a name on the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoTokenizer,
    Gemma4ForConditionalGeneration,
)

from agent.audio.mel import MelParameters
from agent.engine.contract import ProgressCallback
from agent.engine.gemma.download import fetch_checkpoint
from agent.errors import ConfigError, ModelStoreError, Unsupported
from agent.models.progress import ignore_progress

log = structlog.get_logger()

HEARING_VARIANTS = (
    "Gemma 4 E2B and E4B hear speech; 26B A4B and 31B do not, and the encoder-free 12B does not "
    "with this engine"
)
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint, everything read from its own files.

    Attributes:
        name: The folder or hub name it was opened by.
        model: transformers' model, in eval mode, on `device` in `dtype`.
        tokenizer: Its tokenizer, chat template included.
        mel: What its feature extractor computes.
    """

    name: str
    model: Gemma4ForConditionalGeneration
    tokenizer: Any
    mel: MelParameters

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.model.dtype


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU.

    Raises:
        ConfigError: A GPU was asked for and none can be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name} was asked for, but torch finds no usable GPU")
    return device


def choose_dtype(name: str = "auto") -> torch.dtype:
    """`auto` is bfloat16, what the published weights are.

    Raises:
        ConfigError: Neither `auto` nor one of `bfloat16`, `float32`.
    """
    if name == "auto":
        return torch.bfloat16
    if name not in DTYPES:
        raise ConfigError(f"dtype {name} is not one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def check_hears(name: str, config: Any) -> None:
    """Refuse what this engine cannot hear with, before any weight is read.

    Raises:
        Unsupported: Not a Gemma 4 with an audio tower, or one with parts we do not run.
    """
    if config.model_type != "gemma4":
        raise Unsupported(
            f"{name} is a {config.model_type} checkpoint, not gemma4; {HEARING_VARIANTS}"
        )
    if config.audio_config is None:
        raise Unsupported(f"{name} has no audio tower and cannot hear; {HEARING_VARIANTS}")
    text = config.text_config
    unsupported = {
        "enable_moe_block": text.enable_moe_block,
        "attention_k_eq_v": text.attention_k_eq_v,
        "attention_bias": text.attention_bias,
        "use_bidirectional_attention=all": text.use_bidirectional_attention == "all",
        "attention_context_right": config.audio_config.attention_context_right,
        "no hidden_size_per_layer_input": not text.hidden_size_per_layer_input,
    }
    found = [key for key, value in unsupported.items() if value]
    if found:
        raise Unsupported(f"{name} sets {', '.join(found)}, which this engine does not run")


def open_checkpoint(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    progress: ProgressCallback = ignore_progress,
) -> Checkpoint:
    """Load a checkpoint; downloads it first where it is neither a folder nor in the hub's cache.

    Args:
        name: A folder, or a name on the hub such as `google/gemma-4-E2B-it`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …
        dtype: `auto`, `bfloat16` or `float32`.
        progress: Told what is done, and how much of a download.

    Raises:
        ModelStoreError: Missing, corrupt or unreadable files.
        Unsupported: It cannot hear; the message says which variants can.
        ConfigError: The device or dtype cannot be had.
    """
    where, precision = choose_device(device), choose_dtype(dtype)
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise ModelStoreError(
            f"cannot read the configuration of {name}: {_first_line(error)}"
        ) from error
    check_hears(name, config)
    folder = fetch_checkpoint(name, progress)
    progress(f"Loading {name}", None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        extractor = AutoFeatureExtractor.from_pretrained(folder)  # type: ignore[no-untyped-call]
        model = Gemma4ForConditionalGeneration.from_pretrained(
            folder,
            config=config,
            dtype=precision,
            device_map={"": where} if _by_map(where) else None,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelStoreError(f"cannot load {name}: {_first_line(error)}") from error
    except Exception as error:
        # safetensors raises its own class, which derives from nothing but Exception.
        if type(error).__module__.startswith("safetensors"):
            raise ModelStoreError(f"a file of {name} is corrupt: {_first_line(error)}") from error
        raise
    if tokenizer.chat_template is None:
        raise ModelStoreError(f"{name} has no chat template: use an instruction-tuned checkpoint")
    log.info("checkpoint opened", name=name, device=str(where), dtype=str(precision))
    model.eval()  # type: ignore[no-untyped-call]
    return Checkpoint(name, model, tokenizer, MelParameters.from_extractor(extractor))


def _by_map(device: torch.device) -> bool:
    # Straight to the GPU, without a second copy in host memory.
    return device.type != "cpu"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
