"""The embedded engine: loads both models and opens conversations on them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog

from agent.audio.pcm import SAMPLE_RATE_HZ
from agent.engine.contract import ConversationSettings, Engine, EngineInfo, ProgressCallback
from agent.engine.cores import usable_cores
from agent.engine.items import Item
from agent.engine.small.answers import Answers
from agent.engine.small.conversation import SmallConversation
from agent.engine.small.language_model import LanguageModel, Sampling
from agent.engine.small.options import INFO, SmallOptions, choose_threads
from agent.engine.small.recogniser import Recogniser
from agent.engine.small.recognition import RecognitionQueue
from agent.errors import EngineUnavailable
from agent.models.store import ModelStore

log = structlog.get_logger(__name__)

_RECOGNISER = "whisper-base"
_LANGUAGE_MODEL = "smollm2-135m-instruct"
_LANGUAGE_MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


class SmallEngine(Engine):
    """Whisper base and SmolLM2-135M in this process; meant for a process of its own."""

    def __init__(self, options: SmallOptions) -> None:
        self._options = options
        self._queue: RecognitionQueue | None = None
        self._answers: Answers | None = None

    @property
    def info(self) -> EngineInfo:
        """What this engine is and can do."""
        options = self._options
        return replace(
            INFO,
            context_tokens=options.context_tokens,
            answers_at_once=options.parallel_answers,
        )

    async def start(self, progress: ProgressCallback) -> None:
        """Fetch what is missing, load both models and run each once.

        Raises:
            EngineError: A package or a file is missing.
            ModelStoreError: A model cannot be fetched; the message says what to do.
        """
        loop = asyncio.get_running_loop()

        def report(doing: str, fraction: float | None) -> None:
            loop.call_soon_threadsafe(progress, doing, fraction)

        recogniser, model = await asyncio.to_thread(self._load, report)
        self._queue = RecognitionQueue(recogniser)
        self._queue.start()
        self._answers = Answers(
            model,
            self._options.parallel_answers,
            self._options.temperature,
            self._options.max_output_tokens,
        )

    def open(
        self, settings: ConversationSettings, history: Sequence[Item] = ()
    ) -> SmallConversation:
        """See `Engine.open`.

        Raises:
            EngineUnavailable: It was not started.
        """
        if self._queue is None or self._answers is None:
            raise EngineUnavailable("the engine is not started")
        return SmallConversation(self._queue, self._answers, settings, history)

    async def stop(self) -> None:
        """See `Engine.stop`."""
        if self._queue is not None:
            await self._queue.stop()
        if self._answers is not None:
            await self._answers.stop()
        self._queue = self._answers = None

    def _load(self, progress: ProgressCallback) -> tuple[Recogniser, LanguageModel]:
        """Blocks: minutes when models must be fetched, else seconds."""
        options = self._options
        folder, file = self._find_files(progress)
        recognition_threads, language_threads = choose_threads(usable_cores())
        progress("Loading the recogniser", None)
        recogniser = Recogniser(folder, options.recognition_threads or recognition_threads)
        progress("Loading the language model", None)
        model = LanguageModel(
            file,
            threads=options.language_threads or language_threads,
            context_tokens=options.context_tokens,
            parallel=options.parallel_answers,
            cache_mib=options.prompt_cache_mib,
        )
        progress("Warming up", None)
        # The first run of each takes about a second longer than the second.
        recogniser.hear(np.full(SAMPLE_RATE_HZ, 0.01, np.float32))
        model.generate(
            [{"role": "user", "content": "Hello"}], Sampling(1, 0.0, None), lambda *_: False
        )
        return recogniser, model

    def _find_files(self, progress: ProgressCallback) -> tuple[Path, Path]:
        folder, file = self._options.recogniser_folder, self._options.language_model_file
        if folder is not None and file is not None:
            return Path(folder), Path(file)
        store = ModelStore()
        found = Path(folder) if folder else store.ensure(_RECOGNISER, progress)
        if file is None:
            store.ensure(_LANGUAGE_MODEL, progress)
            return found, store.file(_LANGUAGE_MODEL, _LANGUAGE_MODEL_FILE)
        return found, Path(file)
