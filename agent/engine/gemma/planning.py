"""Decisions at the start: how much memory for conversations, how long a piece of speech."""

from __future__ import annotations

from typing import Any

import structlog
import torch

from agent.engine.gemma.cache import CachePlan
from agent.engine.gemma.ear import Ear
from agent.engine.gemma.graphs import StepShapes
from agent.engine.gemma.options import TOKEN_MS, GemmaOptions, available_bytes
from agent.engine.gemma.pieces import PIECES_TOKENS, choose_piece_tokens
from agent.engine.gemma.text_weights import TextWeights

log = structlog.get_logger(__name__)

CPU_SLOTS = 16
"""On the CPU: more at once would not keep up anyway."""
GPU_SLOTS = 512
SLACK_TOKENS = 160
"""How far a slot can go back by itself: a clip is cut up to five seconds (125 tokens) back."""


def free_bytes(device: torch.device) -> int:
    """Memory of a device that is free."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes()


def encoder_bytes(model: Any, piece_tokens: int) -> int:
    """Bytes of the encoder's state for one clip."""
    config = model.config.audio_config
    reach = config.attention_context_left
    ring = 1 << (reach + piece_tokens).bit_length()
    per_layer = config.hidden_size * (2 * ring + config.conv_kernel_size)
    return int(config.num_hidden_layers * per_layer * model.dtype.itemsize)


def plan_cache(
    weights: TextWeights,
    clip_bytes: int,
    options: GemmaOptions,
    context_tokens: int,
) -> CachePlan:
    """How many slots of how many tokens.

    Raises:
        EngineError: Not even one fits.
    """
    device = weights.embed.device
    free = int(free_bytes(device) * options.memory_share)
    most = options.slots or (GPU_SLOTS if device.type == "cuda" else CPU_SLOTS)
    slack = max(SLACK_TOKENS, StepShapes(piece_tokens=max(PIECES_TOKENS)).slack_tokens)
    plan = CachePlan.fit(
        weights, free, slot_tokens=context_tokens, slack_tokens=slack, most_slots=most
    )
    # A clip of every slot may be heard: its encoder's state must fit as well.
    rest = free - (plan.slots + 1) * clip_bytes
    return CachePlan.fit(
        weights, rest, slot_tokens=context_tokens, slack_tokens=slack, most_slots=plan.slots
    )


def choose_piece(ear: Ear, piece_ms: int | None) -> int:
    """Soft tokens of a piece: as set, or the shortest that keeps up with speech."""
    if piece_ms is not None:
        return piece_ms // TOKEN_MS
    choice = choose_piece_tokens(ear)
    loads = {size * TOKEN_MS: round(load, 3) for size, load in choice.loads.items()}
    log.info("pieces chosen", piece_ms=choice.tokens * TOKEN_MS, load_by_ms=loads)
    if choice.loads.get(choice.tokens, 0.0) >= 1.0:
        log.warning(
            "too slow to keep up with speech: answers will come later the longer somebody speaks",
            seconds_per_second=round(choice.loads[choice.tokens], 2),
            advice="use a GPU, or a CPU with AVX-512 bf16 or AMX that nothing else is using",
        )
    return choice.tokens
