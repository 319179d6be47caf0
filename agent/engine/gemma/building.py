"""From a loaded checkpoint to everything that conversations share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import structlog
import torch

from agent.engine.contract import ConversationSettings, ProgressCallback
from agent.engine.gemma.checkpoint import Checkpoint
from agent.engine.gemma.detokenise import Vocabulary
from agent.engine.gemma.device import Device
from agent.engine.gemma.encoder import FRAMES_PER_TOKEN
from agent.engine.gemma.graphs import Steps, StepShapes, build_ear
from agent.engine.gemma.options import TOKEN_MS, GemmaOptions
from agent.engine.gemma.pieces import PIECES_TOKENS
from agent.engine.gemma.planning import choose_piece, encoder_bytes, plan_cache
from agent.engine.gemma.prompts import ClipRef, PromptItem, PromptRenderer, split_at_clip
from agent.engine.gemma.residency import Residency
from agent.engine.gemma.sampling import SamplingParameters
from agent.engine.gemma.scheduler import Command, Scheduler
from agent.engine.gemma.sounds import SoftStore
from agent.engine.gemma.text_weights import TextWeights
from agent.engine.gemma.workshop import Workshop
from agent.engine.items import Role

log = structlog.get_logger(__name__)

_MOST_CLOSING_TOKENS = 32


def build_workshop(
    checkpoint: Checkpoint,
    options: GemmaOptions,
    progress: ProgressCallback,
    deliver: Callable[[Sequence[Command]], None],
) -> Workshop:
    """Plan the memory, capture the steps, warm up; blocks for seconds to minutes.

    Args:
        checkpoint: Its model's weights are regrouped in place.
        options: Settings; what they say of the checkpoint was done already.
        progress: Told of every step, in this thread.
        deliver: As for `Scheduler`.

    Raises:
        EngineError: There is not enough memory.
        ModelStoreError: The tokenizer does not fit the model.
    """
    renderer = PromptRenderer(checkpoint)
    vocabulary = Vocabulary(checkpoint, renderer)
    model: Any = checkpoint.model
    context_tokens = min(options.context_tokens, model.config.text_config.max_position_embeddings)
    if model.device.type == "cuda":
        torch.cuda.set_device(model.device)  # this thread's: its streams and graphs
    with timed("memory", progress, "Planning the memory"):
        weights, pieces = TextWeights.of(model), _most_piece_tokens(options)
        plan = plan_cache(weights, encoder_bytes(model, pieces), options, context_tokens)
        ear = build_ear(model, plan, pieces, weights)
    with timed("pieces", progress, "Measuring how fast it hears"):
        piece_tokens = choose_piece(ear, options.piece_ms)
    shapes = StepShapes(piece_tokens=piece_tokens, closing_tokens=_closing_tokens(renderer))
    steps = Steps(ear, shapes, _placeholders(checkpoint))
    with timed("graphs", progress, "Capturing the steps"):
        for name, seconds in steps.prepare(progress).items():
            log.info("step captured", step=name, seconds=round(seconds, 2))
    with timed("warm-up", progress, "Warming up"):
        _warm_up(steps)
    residency = Residency(ear.decoder.cache)
    device = Device(steps, residency, SoftStore(options.soft_cache_mib * 2**20))
    log.info(
        "engine planned",
        slots=plan.slots,
        context_tokens=context_tokens,
        piece_ms=piece_tokens * TOKEN_MS,
        cache_mib=ear.decoder.cache.nbytes >> 20,
    )
    return Workshop(
        scheduler=Scheduler(device, residency, deliver),
        device=device,
        residency=residency,
        renderer=renderer,
        vocabulary=vocabulary,
        mel=checkpoint.mel,
        sampling=SamplingParameters.of(model.generation_config),
        max_output_tokens=options.max_output_tokens,
        context_tokens=context_tokens,
        summaries=options.summaries,
    )


@contextmanager
def timed(name: str, progress: ProgressCallback, doing: str) -> Iterator[None]:
    """Tell what is being done, and log how long it took."""
    progress(doing, None)
    began = perf_counter()
    yield
    log.info("engine start", step=name, seconds=round(perf_counter() - began, 2))


def _placeholders(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Tokens that stand for media: the model reads them as padding when it writes one."""
    config = checkpoint.model.config
    tokens = (config.image_token_id, config.audio_token_id, config.video_token_id)
    return tuple(token for token in tokens if token is not None)


def _closing_tokens(renderer: PromptRenderer) -> int:
    """How much text the template writes between the end of speech and the answer.

    With less, the end of a turn would take a second step.
    """
    speech = PromptItem(Role.USER, (ClipRef("speech", 1),))
    closing = split_at_clip(renderer.render(ConversationSettings(), [speech]), "speech")[1]
    return min(max(len(closing), StepShapes().closing_tokens), _MOST_CLOSING_TOKENS)


def _most_piece_tokens(options: GemmaOptions) -> int:
    return max(PIECES_TOKENS) if options.piece_ms is None else options.piece_ms // TOKEN_MS


def _warm_up(steps: Steps) -> None:
    """Each step once: the first time takes longer than all others."""
    cache = steps.ear.decoder.cache
    slot, bins = cache.allocate(), steps.ear.state.mel.shape[1]
    frames = np.zeros((FRAMES_PER_TOKEN * steps.shapes.piece_tokens, bins), np.float32)
    steps.read([slot], [0], [[0] * min(8, steps.shapes.read_tokens)])
    steps.hear([slot], [0], [frames], [0], [0])
    steps.close([slot], [0], [frames[:5]], [0], [0], [[0]])
    steps.recall([slot], [0], [steps.soft[0].cpu()])
    steps.decode([slot], [0], [0])
    steps.best.tolist()
    cache.free(slot)
