"""The resident engine over a tiny random checkpoint, and what transformers would answer."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch

from agent.audio.pcm import Encoding, decode
from agent.engine.branches import BranchDone, BranchRequest, TextDelta, Usage
from agent.engine.contract import Branch, ProgressCallback
from agent.engine.gemma.checkpoint import Checkpoint, open_checkpoint
from agent.engine.gemma.conversation import GemmaConversation
from agent.engine.gemma.decoding import Decoding
from agent.engine.gemma.engine import GemmaEngine
from agent.engine.gemma.options import GemmaOptions
from agent.engine.gemma.workshop import Workshop
from agent.errors import EngineError
from tests.helpers import gemma_oracle as oracle
from tests.helpers.tiny_gemma import save_tiny_gemma

Turn = tuple[str, str | list[bytes]]
"""A role, and text or clips of 16-bit PCM."""

SHORTEST_CLIP = 160

TIE = 1e-4
"""Where the two best logits are closer than this, either may be taken."""


@cache
def tiny_folder(seed: int = 0) -> Path:
    """A checkpoint folder, made once."""
    return save_tiny_gemma(Path(tempfile.mkdtemp(prefix="tiny-gemma-")), seed=seed)


@cache
def reference(seed: int = 0) -> Checkpoint:
    """The same checkpoint for transformers alone: the engine regroups its own weights."""
    return open_checkpoint(str(tiny_folder(seed)), device="cpu", dtype="float32")


def options(**changes: object) -> GemmaOptions:
    """A small engine in float32."""
    values: dict[str, object] = {
        "model": str(tiny_folder()),
        "device": "cpu",
        "dtype": "float32",
        "context_tokens": 2048,
        "memory_share": 0.2,
        "slots": 8,
        "piece_ms": 320,
        "soft_cache_mib": 64,
        "threads": 1,
        "max_output_tokens": 8,
        "summaries": False,
    }
    return GemmaOptions(**{**values, **changes})  # type: ignore[arg-type]


def prompt_of(turns: Sequence[Turn], instructions: str = "", seed: int = 0) -> oracle.Prompt:
    """A conversation as transformers is given it: the whole of it in one prompt."""
    tokenizer, config = reference(seed).tokenizer, reference(seed).model.config
    messages: list[dict[str, object]] = []
    if instructions or not turns:
        messages.append({"role": "system", "content": instructions})
    clips: list[np.ndarray] = []
    for role, content in turns:
        if isinstance(content, str):
            messages.append({"role": role, "content": content})
            continue
        messages.append({"role": role, "content": [{"type": "audio"} for _ in content]})
        clips += [decode(clip, Encoding.PCM16) for clip in content]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    prompt = oracle.Prompt()
    parts = text.split("<|audio|>")
    for place, part in enumerate(parts):
        prompt.text(tokenizer(part, add_special_tokens=False)["input_ids"])
        if place < len(clips):
            prompt.clip(clips[place], config)
    return prompt


def check_greedy(prompt: oracle.Prompt, tokens: list[int], seed: int = 0) -> None:
    """Assert that an answer is transformers' own, ties apart.

    It cannot be asked about clips that are too short for a single frame; we can.
    """
    if any(len(clip) <= SHORTEST_CLIP for clip in prompt.clips):
        return
    model = reference(seed).model
    expected = oracle.greedy(model, prompt, len(tokens))
    if tokens == expected:
        return
    place = next(i for i, token in enumerate(tokens) if token != expected[i])
    so_far = oracle.Prompt([*prompt.ids, *expected[:place]], prompt.clips)
    logits = oracle.logits(model, so_far)[-1]
    logits = logits.index_fill(0, torch.tensor(oracle.placeholders(model)), -torch.inf)
    best = logits.topk(2).values
    gap = float(best[0] - best[1])
    assert gap < TIE, f"token {place}: {tokens} for {expected}, {gap} apart"


class ManualEngine(GemmaEngine):
    """The engine without its thread: tests make the rounds, so nothing depends on time."""

    def __init__(self, **changes: object) -> None:
        super().__init__(options(**changes))
        self.asked: dict[object, list[int]] = {}

    async def start(self, progress: ProgressCallback = lambda *_: None) -> None:
        self._loop = asyncio.get_running_loop()
        self._shop = self._load(progress)

    @property
    def shop(self) -> Workshop:
        assert self._shop is not None
        return self._shop

    @property
    def slots_planned(self) -> int:
        return self.shop.residency.cache.plan.slots

    def round(self) -> bool:
        """One round of the thread, and what it tells."""
        self.shop.scheduler.drain()
        worked = self.shop.scheduler.round()
        self.shop.scheduler.flush()
        return worked

    async def rest(self, most: int = 20_000) -> None:
        """Rounds until nothing is to be done."""
        for _ in range(most):
            if not self.round():
                await asyncio.sleep(0)
                return
        raise AssertionError("the engine never rests")

    async def settle(self) -> None:
        """As `rest`, and then all conversations get ready for what will be said."""
        await self.rest()
        for conversation in self._conversations:
            conversation._post(conversation._dialogue.be_due)
        await self.rest()

    async def stop(self) -> None:
        self._end_all()
        self._shop = None


@dataclass
class Answer:
    """What a branch gave."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    done: BranchDone | None = None
    error: EngineError | None = None
    spent: Usage | None = None  # with its last text


async def read(branch: Branch) -> Answer:
    """All of a branch that has ended, or whose engine has a thread."""
    answer = Answer(tokens=TOKENS.get(branch, []))
    try:
        async for piece in branch:
            if isinstance(piece, TextDelta):
                answer.text += piece.text
                answer.spent = piece.usage
            else:
                answer.done = piece
    except EngineError as error:
        answer.error = error
    return answer


TOKENS: dict[Branch, list[int]] = {}
"""Tokens of every branch of engines in this process, stop tokens included."""


def record_tokens(setattr_: Callable[..., None]) -> None:
    """Fill `TOKENS` from now on; to be given `monkeypatch.setattr` or `setattr`."""
    take, branch_of = Decoding.take, GemmaConversation.branch
    told: dict[object, list[int]] = {}

    def record(self: Decoding, token: int) -> None:
        told.setdefault(self.asked.tell, []).append(token)
        take(self, token)

    def branch(self: GemmaConversation, request: BranchRequest) -> Branch:
        teller = self._teller
        tells: list[object] = []

        def noted(push: Callable[..., None]) -> object:
            tells.append(teller(push))
            return tells[0]

        self._teller = noted  # type: ignore[method-assign,assignment]
        try:
            stream = branch_of(self, request)
        finally:
            del self._teller
        TOKENS[stream] = told.setdefault(tells[0], [])
        return stream

    setattr_(Decoding, "take", record)
    setattr_(GemmaConversation, "branch", branch)
