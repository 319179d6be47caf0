"""The resident engine: opens a checkpoint, plans its memory, and holds conversations on it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from agent.engine.contract import ConversationSettings, Engine, EngineInfo, ProgressCallback
from agent.engine.cores import usable_cores
from agent.engine.gemma.building import build_workshop, timed
from agent.engine.gemma.checkpoint import open_checkpoint
from agent.engine.gemma.conversation import GemmaConversation
from agent.engine.gemma.dialogue import Dialogue
from agent.engine.gemma.options import GemmaOptions
from agent.engine.gemma.scheduler import Command
from agent.engine.gemma.workshop import Workshop
from agent.engine.items import Item
from agent.engine.process import leave
from agent.errors import EngineBusy, EngineUnavailable


class GemmaEngine(Engine):
    """Gemma 4 in this process; meant for a process of its own.

    Args:
        options: Settings.
        alone: Whether the process is there for this engine only; it then leaves when the
            device is lost.
    """

    def __init__(self, options: GemmaOptions, *, alone: bool = False) -> None:
        self._options = options
        self._is_alone = alone
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

    # ------------------------------------------------------------ the thread's side

    def _load(self, progress: ProgressCallback) -> Workshop:
        options = self._options
        torch.set_num_threads(options.threads or usable_cores())
        with timed("checkpoint", progress, f"Loading {options.model}"):
            checkpoint = open_checkpoint(
                options.model, device=options.device, dtype=options.dtype, progress=progress
            )
        shop = build_workshop(checkpoint, options, progress, self._deliver)
        self._info = replace(self._info, context_tokens=shop.context_tokens)
        if self._is_alone:
            # What is here now stays: looking through all of it again and again would hold up
            # answers for some ten milliseconds each time.
            gc.collect()
            gc.freeze()
        return shop

    def _deliver(self, results: Sequence[Command]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_call_all, results)

    def _lost(self, error: BaseException) -> None:
        """It is over."""
        if self._is_alone:
            leave(1)  # a new process gets the device back
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end_all)


def create(options: dict[str, Any]) -> GemmaEngine:
    """The engine of these options, as `GemmaOptions.to_json` gave them, for its own process."""
    return GemmaEngine(GemmaOptions(**options), alone=True)


def _call_all(results: Sequence[Command]) -> None:
    for result in results:
        result()
