"""Decodes answers: waits for the words, fits the prompt, runs the model in a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

from agent.engine.branches import BranchDone, FinishReason, Limits, TextDelta, Usage
from agent.engine.contract import Truncation
from agent.engine.items import Item, Role, Speech
from agent.engine.small.language_model import Generated, LanguageModel, Sampling
from agent.engine.small.listening import Words
from agent.engine.small.prompt import Message, build_messages, fit
from agent.engine.stream import BranchStream
from agent.errors import EngineError

# An answer that asks for more than this share of the context may get less room than that,
# so that a long limit does not push the conversation out of the prompt.
_RESERVED_FOR_ANSWER = 1 / 4
_OPEN_ITEM = "\0open"


@dataclass(frozen=True, slots=True)
class Question:
    """What an answer is decoded from: the conversation as it was when it was asked for.

    Attributes:
        instructions: The system prompt.
        items: The history.
        words: Of the spoken items whose transcript is not in them, by item id.
        open_words: Of the open utterance, when the answer is to see it.
        truncation: What happens when all that is too long.
    """

    instructions: str
    items: tuple[Item, ...]
    words: Mapping[str, Words]
    open_words: Words | None
    truncation: Truncation

    async def messages(self) -> list[Message]:
        """The chat messages, once all words are known.

        Raises:
            EngineError: The words asked about are not to be had. Older ones that are not
                count as inaudible.
        """
        items, words = self.items, dict(self.words)
        if self.open_words is not None:
            items = (*items, Item(_OPEN_ITEM, Role.USER, (Speech(),)))
            words[_OPEN_ITEM] = self.open_words
        transcripts: dict[str, str] = {}
        for item in items:
            if item.id not in words:
                continue
            try:
                transcripts[item.id] = (await words[item.id].heard()).text
            except EngineError:
                if item is items[-1]:
                    raise
        return build_messages(self.instructions, items, transcripts)


class Answers:
    """Runs the language model, `parallel` answers at a time.

    Args:
        model: The model.
        parallel: What the model was loaded for.
        temperature: Of answers that do not say theirs.
        max_output_tokens: Of answers that do not say theirs.
    """

    def __init__(
        self, model: LanguageModel, parallel: int, temperature: float, max_output_tokens: int
    ) -> None:
        self.model = model
        self._temperature = temperature
        self._max_output_tokens = max_output_tokens
        # Never more calls than llama.cpp has places: one that waited inside could not be
        # cancelled.
        self.pool = ThreadPoolExecutor(parallel, thread_name_prefix="answer")

    def sampling(self, limits: Limits) -> Sampling:
        """How to decode, with what `limits` leaves open."""
        return Sampling(
            max_output_tokens=limits.max_output_tokens or self._max_output_tokens,
            temperature=self._temperature if limits.temperature is None else limits.temperature,
            seed=limits.seed,
        )

    async def answer(self, stream: BranchStream, question: Question, limits: Limits) -> None:
        """Decode one answer into `stream`; ends with its last piece.

        Raises:
            EngineError: It cannot be answered.
        """
        await _Decoding(self, stream, question, self.sampling(limits)).run()

    async def stop(self) -> None:
        """Let running answers end and free the model."""
        await asyncio.to_thread(self.pool.shutdown, cancel_futures=True)
        self.model.close()


class _Decoding:
    """One answer being decoded."""

    def __init__(
        self, answers: Answers, stream: BranchStream, question: Question, sampling: Sampling
    ) -> None:
        self._answers = answers
        self._stream = stream
        self._question = question
        self._sampling = sampling
        self._loop = asyncio.get_running_loop()
        self._cancelled = Event()
        self._begun = False
        self._first_text_s: float | None = None
        self._limit_tokens = sampling.max_output_tokens
        self._dropped_items = 0

    async def run(self) -> None:
        """Decode it."""
        task = asyncio.current_task()

        def cancel() -> None:
            self._cancelled.set()
            if not self._begun and task is not None:
                task.cancel()

        self._stream.when_cancelled(cancel)
        asked_s = time.perf_counter()
        messages = await self._question.messages()
        heard_s = time.perf_counter()
        try:
            cost = await self._loop.run_in_executor(self._answers.pool, self._decode, messages)
        finally:
            self._cancelled.set()  # when the conversation is closed, the thread ends too
        stages_ms = {"recognition": (heard_s - asked_s) * 1000}
        if self._first_text_s is not None:
            stages_ms["prompt"] = (self._first_text_s - heard_s) * 1000
        self._stream.push(BranchDone(self._reason(cost), self._usage(cost), stages_ms))

    def _decode(self, messages: list[Message]) -> Generated:
        """In a thread of the pool."""
        self._begun = True
        model = self._answers.model
        reserved = min(
            self._sampling.max_output_tokens, int(model.context_tokens * _RESERVED_FOR_ANSWER)
        )
        prompt = fit(
            messages,
            model.context_tokens - reserved,
            model.count_tokens,
            self._question.truncation,
        )
        self._dropped_items = prompt.dropped
        room = model.context_tokens - prompt.tokens
        self._limit_tokens = min(self._sampling.max_output_tokens, room)
        sampling = Sampling(self._limit_tokens, self._sampling.temperature, self._sampling.seed)
        return model.generate(prompt.messages, sampling, self._take)

    def _take(self, text: str, cost: Generated) -> bool:
        """In the same thread: pass text on; True to stop."""
        if self._cancelled.is_set():
            return True
        if text:
            if self._first_text_s is None:
                self._first_text_s = time.perf_counter()
            delta = TextDelta(text, self._usage(cost))
            self._loop.call_soon_threadsafe(self._stream.push, delta)
        return False

    def _reason(self, cost: Generated) -> FinishReason:
        if cost.complete:
            return FinishReason.STOP
        if cost.output_tokens >= self._limit_tokens:
            return FinishReason.MAX_OUTPUT_TOKENS
        return FinishReason.CANCELLED

    def _usage(self, cost: Generated) -> Usage:
        return Usage(
            text_tokens=cost.prompt_tokens,
            cached_tokens=cost.cached_tokens,
            output_tokens=cost.output_tokens,
            dropped_items=self._dropped_items,
        )
