"""The resident engine: opens a checkpoint, plans its memory, and holds conversations on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import structlog
import torch

from agent.engine.contract import (
    ConversationSettings,
    Engine,
    EngineInfo,
    Item,
    ProgressCallback,
)
from agent.engine.gemma.checkpoint import Checkpoint, open_checkpoint
from agent.engine.gemma.conversation import GemmaConversation
from agent.engine.gemma.detokenise import Vocabulary
from agent.engine.gemma.device import Device
from agent.engine.gemma.dialogue import Dialogue
from agent.engine.gemma.encoder import FRAMES_PER_TOKEN
from agent.engine.gemma.graphs import Steps, StepShapes, build_ear
from agent.engine.gemma.options import TOKEN_MS, GemmaOptions
from agent.engine.gemma.pieces import PIECES_TOKENS
from agent.engine.gemma.planning import choose_piece, encoder_bytes, plan_cache
from agent.engine.gemma.prompts import PromptRenderer
from agent.engine.gemma.residency import Residency
from agent.engine.gemma.sampling import SamplingParameters
from agent.engine.gemma.scheduler import Command, Scheduler
from agent.engine.gemma.sounds import SoftStore
from agent.engine.gemma.text_weights import TextWeights
from agent.engine.gemma.workshop import Workshop
from agent.engine.small.options import usable_cores
from agent.errors import EngineBusy, EngineUnavailable

log = structlog.get_logger(__name__)

Fault = Callable[[BaseException], None]
"""Called, in the engine's thread, when the device cannot be used any more."""


class GemmaEngine(Engine):
    """Gemma 4 in this process; meant for a process of its own.

    Args:
        options: Settings.
        on_fault: What to do, beside failing all conversations, when the device is lost.
    """

    def __init__(self, options: GemmaOptions, on_fault: Fault | None = None) -> None:
        self._options = options
        self._on_fault = on_fault
        self._info = options.info
        self._shop: Workshop | None = None
        self._conversations: set[GemmaConversation] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def info(self) -> EngineInfo:
        """What this engine is and can do."""
        return self._info

    async def start(self, progress: ProgressCallback) -> None:
        """Load the checkpoint, plan the memory, warm up, capture the steps.

        Raises:
            ModelStoreError: The checkpoint is missing or broken.
            Unsupported: It cannot hear.
            ConfigError: The device or dtype cannot be had.
            EngineError: There is not enough memory.
        """
        loop = self._loop = asyncio.get_running_loop()

        def report(doing: str, fraction: float | None) -> None:
            loop.call_soon_threadsafe(progress, doing, fraction)

        self._shop = await asyncio.to_thread(self._load, report)
        self._shop.scheduler.start(self._lost)

    def open(
        self, settings: ConversationSettings, history: Sequence[Item] = ()
    ) -> GemmaConversation:
        """See `Engine.open`.

        Raises:
            EngineUnavailable: It was not started.
            EngineBusy: Everybody else is speaking or being answered.
        """
        if self._shop is None:
            raise EngineUnavailable("the engine is not started")
        slots = self._shop.residency.cache.plan.slots
        if sum(one.is_live for one in self._conversations) >= slots:
            raise EngineBusy(
                f"{slots} conversations are being heard or answered, as many as fit; try again"
            )
        scheduler = self._shop.scheduler
        conversation = GemmaConversation(
            scheduler, Dialogue(self._shop), settings, history, self._conversations.discard
        )
        self._conversations.add(conversation)
        return conversation

    async def stop(self) -> None:
        """See `Engine.stop`."""
        if self._shop is None:
            return
        shop, self._shop = self._shop, None
        await asyncio.to_thread(shop.scheduler.stop)
        self._end_all()

    def _end_all(self) -> None:
        for conversation in self._conversations:
            conversation.end(EngineUnavailable("the engine has stopped"))

    def _lost(self, error: BaseException) -> None:
        """In the thread: it is over."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end_all)
        if self._on_fault is not None:
            self._on_fault(error)

    # ------------------------------------------------------------ starting, in a thread

    def _load(self, progress: ProgressCallback) -> Workshop:
        options = self._options
        torch.set_num_threads(options.threads or usable_cores())
        with _timed("checkpoint", progress, f"Loading {options.model}"):
            checkpoint = open_checkpoint(options.model, device=options.device, dtype=options.dtype)
            renderer = PromptRenderer(checkpoint)
            vocabulary = Vocabulary(checkpoint, renderer)
        config: Any = checkpoint.model.config.text_config
        context_tokens = min(options.context_tokens, config.max_position_embeddings)
        with _timed("memory", progress, "Planning the memory"):
            weights, pieces = TextWeights.of(checkpoint.model), _most_piece_tokens(options)
            clip_bytes = encoder_bytes(checkpoint.model, pieces)
            plan = plan_cache(weights, clip_bytes, options, context_tokens)
            ear = build_ear(checkpoint.model, plan, pieces, weights)
        with _timed("pieces", progress, "Measuring how fast it hears"):
            piece_tokens = choose_piece(ear, options.piece_ms)
        steps = Steps(ear, StepShapes(piece_tokens=piece_tokens), _placeholders(checkpoint))
        with _timed("graphs", progress, "Capturing the steps"):
            for name, seconds in steps.prepare(progress).items():
                log.info("step captured", step=name, seconds=round(seconds, 2))
        residency = Residency(ear.decoder.cache)
        device = Device(steps, residency, SoftStore(options.soft_cache_mib * 2**20))
        with _timed("warm-up", progress, "Warming up"):
            _warm_up(steps)
        self._info = replace(self._info, context_tokens=context_tokens)
        log.info(
            "engine planned", slots=plan.slots, context_tokens=context_tokens,
            piece_ms=piece_tokens * TOKEN_MS, cache_mib=ear.decoder.cache.nbytes >> 20,
        )  # fmt: skip
        return Workshop(
            scheduler=Scheduler(device, residency, self._deliver),
            device=device,
            residency=residency,
            renderer=renderer,
            vocabulary=vocabulary,
            mel=checkpoint.mel,
            sampling=SamplingParameters.of(checkpoint.model.generation_config),
            max_output_tokens=options.max_output_tokens,
            context_tokens=context_tokens,
        )

    def _deliver(self, results: Sequence[Command]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_call_all, results)


def create(options: dict[str, Any]) -> GemmaEngine:
    """The engine of these options, as `GemmaOptions.to_json` gave them, for its own process."""
    from agent.engine.process import leave  # noqa: PLC0415

    # Nothing can be done on a device that is lost: a new process gets it back.
    return GemmaEngine(GemmaOptions(**options), on_fault=lambda _: leave(1))


def _call_all(results: Sequence[Command]) -> None:
    for result in results:
        result()


@contextmanager
def _timed(name: str, progress: ProgressCallback, doing: str) -> Iterator[None]:
    progress(doing, None)
    began = perf_counter()
    yield
    log.info("engine start", step=name, seconds=round(perf_counter() - began, 2))


def _placeholders(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Tokens that stand for media: the model reads them as padding when it writes one."""
    config = checkpoint.model.config
    tokens = (config.image_token_id, config.audio_token_id, config.video_token_id)
    return tuple(token for token in tokens if token is not None)


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
