"""Stand-ins for the embedded engine's two models, and the engine with them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np

from agent.audio.pcm import Samples
from agent.engine.branches import BranchDone, BranchKind, BranchRequest
from agent.engine.contract import Branch, ConversationSettings
from agent.engine.items import Item
from agent.engine.small.answers import Answers
from agent.engine.small.conversation import SmallConversation
from agent.engine.small.language_model import Generated, Sampling
from agent.engine.small.prompt import Message
from agent.engine.small.recogniser import Heard
from agent.engine.small.recognition import RecognitionQueue
from agent.errors import EngineError
from tests.helpers import engines
from tests.helpers.patience import PATIENCE_S

ANSWER = BranchRequest(BranchKind.ANSWER)
SETTINGS = ConversationSettings("Be brief.")
Opener = Callable[..., SmallConversation]


class FakeEar:
    """Hears a clip's first sample, in thousandths; each clip waits for `allow` when held.

    Attributes:
        heard: Clips in the order they were heard in: word, samples, expected language.
        drafts: Which of them were heard as drafts.
    """

    def __init__(self, *, held: bool = False) -> None:
        self.heard: list[tuple[str, int, str | None]] = []
        self.drafts: list[bool] = []
        self.begun = threading.Semaphore(0)
        self._held = held
        self._allowed = threading.Semaphore(0)

    def allow(self, clips: int = 1) -> None:
        """Let that many clips be heard."""
        self._allowed.release(clips)

    def hear(
        self,
        samples: Samples,
        language: str | None = None,
        expected: str | None = None,
        *,
        draft: bool = False,
        translate: bool = False,
    ) -> Heard:
        self.begun.release()
        if self._held:
            assert self._allowed.acquire(timeout=PATIENCE_S)
        word = str(round(float(samples[0]) * 1000))
        self.heard.append((word, samples.size, expected))
        self.drafts.append(draft)
        if word == "13":
            raise EngineError("an unlucky clip")
        if word == "14":
            raise RuntimeError("a bug")
        translation = f"{word} in English" if translate else None
        return Heard(word, samples.size // 10, 1, language or "xx", translation)


class FakeModel:
    """Repeats the last message word by word; a character is a token.

    Attributes:
        prompts: What it was asked.
        samplings: How.
    """

    def __init__(self, context_tokens: int = 1000, *, held: bool = False) -> None:
        self.context_tokens = context_tokens
        self.prompts: list[list[Message]] = []
        self.samplings: list[Sampling] = []
        self.begun = threading.Semaphore(0)
        self.closed = False
        self._held = held
        self._allowed = threading.Semaphore(0)

    def allow(self, words: int = 1) -> None:
        """Let that many words be decoded."""
        self._allowed.release(words)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(message["content"]) for message in messages)

    def generate(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        take: Callable[[str, Generated], bool],
    ) -> Generated:
        self.prompts.append(list(messages))
        self.samplings.append(sampling)
        self.begun.release()
        cost = Generated(prompt_tokens=self.count_tokens(messages), cached_tokens=1)
        if take("", cost):
            return cost
        words = messages[-1]["content"].split()
        for word in words[: sampling.max_output_tokens]:
            if self._held:
                assert self._allowed.acquire(timeout=PATIENCE_S)
            if word == "boom":
                raise EngineError("the model gave up")
            if word == "bug":
                raise RuntimeError("oops")
            cost.output_tokens += 1
            if take(f"{word} ", cost):
                return cost
        cost.complete = len(words) <= sampling.max_output_tokens
        return cost

    def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def engine(ear: FakeEar, model: FakeModel) -> AsyncIterator[Opener]:
    """Open conversations of an engine that hears and answers with these, two at a time."""
    queue = RecognitionQueue(ear)
    queue.start()
    answers = Answers(model, 2, temperature=0.5, max_output_tokens=100)  # type: ignore[arg-type]
    opened: list[SmallConversation] = []

    def open_one(history: tuple[Item, ...] = ()) -> SmallConversation:
        opened.append(SmallConversation(queue, answers, SETTINGS, history))
        return opened[-1]

    try:
        yield open_one
    finally:
        for one in opened:
            one.close()
        ear.allow(100)
        model.allow(100)
        await queue.stop()
        await answers.stop()
        assert model.closed


def word(number: int, samples: int = 1600) -> Samples:
    """Speech in which `FakeEar` hears that number."""
    return np.full(samples, number / 1000, np.float32)


SILENCE = np.zeros(800, np.float32)


async def read(branch: Branch) -> tuple[str, BranchDone]:
    """All of a branch that is not held for long."""
    async with asyncio.timeout(PATIENCE_S):
        return await engines.read(branch)
