"""How many live conversations one engine holds: people who speak and are answered, in real time.

The engine's own contract, queue and thread, over random weights: every person speaks 40 % of
the time, in utterances of 2 to 8 s that arrive in pieces of 40 ms, and gets an answer of 60
tokens after each. Time to the first token is from the moment the last piece has arrived, when
the utterance is committed and the answer asked for, until its first text is back on the event
loop. The wait for silence before that is not part of it.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from agent.engine.branches import BranchKind, BranchRequest, Limits, TextDelta
from agent.engine.contract import Conversation, ConversationSettings, ProgressCallback
from agent.engine.gemma.building import build_workshop
from agent.engine.gemma.checkpoint import Checkpoint
from agent.engine.gemma.engine import GemmaEngine
from agent.engine.gemma.options import GemmaOptions
from agent.engine.gemma.workshop import Workshop
from agent.engine.items import Item, Role, Text
from agent.engine.process import SWITCH_INTERVAL_S
from scripts.engine_bench.shapes import MEL, RATE_HZ, Samples, noise, random_model
from tests.helpers.tiny_gemma import CHAT_TEMPLATE, tiny_tokenizer

PIECE_S = 0.04
SPEAKING_SHARE = 0.4
UTTERANCE_S = (2.0, 8.0)
ANSWER_TOKENS = 60
HISTORY_WORDS = 150
"""Letters are tokens here: about 1,000 tokens of history that everybody begins with."""
WARM_UP_S = 8.0
REST_S = 0.3
MOST_MS = 100.0


class RandomEngine(GemmaEngine):
    """The engine over a checkpoint that was never on a disk."""

    def __init__(self, checkpoint: Checkpoint, options: GemmaOptions) -> None:
        super().__init__(options)
        self._checkpoint = checkpoint

    def _load(self, progress: ProgressCallback) -> Workshop:
        return build_workshop(self._checkpoint, self._options, progress, self._deliver)


@dataclass(slots=True)
class Tally:
    """What was measured, in milliseconds."""

    first_ms: list[float] = field(default_factory=list)
    token_ms: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=dict)


def random_checkpoint(shape: str, device: str) -> Checkpoint:
    """Random weights and a tokenizer of as many tokens, each of which is some text."""
    model = random_model(shape, device, torch.bfloat16)
    tokenizer = big_tokenizer(model.config.text_config.vocab_size)
    config, number = model.config, tokenizer.convert_tokens_to_ids
    config.audio_token_id = number("<|audio|>")
    config.boa_token_id, config.eoa_token_index = number("<|audio>"), number("<audio|>")
    config.image_token_id, config.video_token_id = number("<|image|>"), number("<|video|>")
    generation = model.generation_config
    generation.eos_token_id = [1, number("<turn|>")]
    # As the published checkpoints sample.
    generation.do_sample, generation.temperature = True, 1.0
    generation.top_k, generation.top_p = 64, 0.95
    return Checkpoint(f"random-{shape}", model, tokenizer, MEL)


def big_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """The tiny one of the tests, filled up with words."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"w{index}" for index in range(size - len(tokenizer))])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def open_conversation(engine: GemmaEngine, number: int) -> Conversation:
    """One with a history."""
    chance = random.Random(number)  # noqa: S311  # no secret
    words = " ".join(str(chance.randrange(10**6)) for _ in range(HISTORY_WORDS))
    history = [
        Item("h0", Role.USER, (Text(words),)),
        Item("h1", Role.ASSISTANT, (Text("I see."),)),
    ]
    return engine.open(ConversationSettings(f"Person {number}."), history)


async def one_person(
    conversation: Conversation,
    number: int,
    voice: Samples,
    measured_s: tuple[float, float],
    tally: Tally,
) -> None:
    """Speak and listen until it is late; `measured_s` is when what happens counts."""
    begin_s, until_s = measured_s
    chance = random.Random(number)  # noqa: S311  # no secret
    # Everybody is somewhere in the middle of speaking or listening when it begins.
    await asyncio.sleep(chance.uniform(0, sum(UTTERANCE_S) / 2 / SPEAKING_SHARE))
    turn = 0
    while perf_counter() < until_s:
        turn += 1
        length_s = chance.uniform(*UTTERANCE_S)
        began_s = perf_counter()
        await speak(conversation, voice, length_s)
        try:
            measured = perf_counter() >= begin_s
            await be_answered(conversation, turn, tally if measured else Tally())
        except Exception as error:  # noqa: BLE001  # what fails is counted and shown
            tally.failed.append(f"{type(error).__name__}: {error}")
        rest_s = began_s + length_s / SPEAKING_SHARE - perf_counter()
        await asyncio.sleep(max(0.0, rest_s))
    conversation.close()


async def speak(conversation: Conversation, voice: Samples, length_s: float) -> None:
    """One utterance in real time."""
    size = int(PIECE_S * RATE_HZ)
    began_s = perf_counter()
    for piece in range(round(length_s / PIECE_S)):
        await asyncio.sleep(max(0.0, began_s + (piece + 1) * PIECE_S - perf_counter()))
        at = piece * size % (len(voice) - size)
        conversation.hear(voice[at : at + size])


async def be_answered(conversation: Conversation, turn: int, tally: Tally) -> None:
    """Commit, and read the answer to its end."""
    asked_s = perf_counter()
    conversation.commit(f"u{turn}")
    branch = conversation.branch(
        BranchRequest(BranchKind.ANSWER, limits=Limits(max_output_tokens=ANSWER_TOKENS, seed=turn))
    )
    first_s, text, pieces = None, 0, 0
    async for piece in branch:
        if isinstance(piece, TextDelta):
            if first_s is None:
                first_s = perf_counter()
                tally.first_ms.append((first_s - asked_s) * 1000)
            text += len(piece.text)
            pieces += 1
        else:
            for stage, spent_ms in piece.stages_ms.items():
                tally.stages_ms.setdefault(stage, []).append(spent_ms)
    if first_s is not None and pieces > 1:
        tally.token_ms.append((perf_counter() - first_s) * 1000 / (pieces - 1))
    conversation.adopt(branch, f"a{turn}", text)


async def hold(engine: GemmaEngine, people: int, seconds: float) -> dict[str, Any]:
    """So many conversations for so long, after a while in which nothing is measured."""
    tally, voice = Tally(), noise(30.0, 7)
    shop = engine._shop
    assert shop is not None
    opened = [open_conversation(engine, number) for number in range(people)]
    began_s = perf_counter()
    await _until_at_rest(shop)
    read_s = perf_counter() - began_s
    begin_s = perf_counter() + WARM_UP_S
    rounds, busy_s = shop.scheduler.rounds, perf_counter()
    late_ms: list[float] = []
    watch = asyncio.create_task(_watch(late_ms))
    await asyncio.gather(
        *(
            one_person(conversation, number, voice, (begin_s, begin_s + seconds), tally)
            for number, conversation in enumerate(opened)
        )
    )
    watch.cancel()
    rounds, busy_s = shop.scheduler.rounds - rounds, perf_counter() - busy_s
    return {
        "people": people,
        "reading_histories_s": read_s,
        "turns": len(tally.first_ms),
        "failed": len(tally.failed),
        "first_token_p50_ms": percentile(tally.first_ms, 50),
        "first_token_p95_ms": percentile(tally.first_ms, 95),
        "first_token_max_ms": percentile(tally.first_ms, 100),
        "token_p50_ms": percentile(tally.token_ms, 50),
        "token_p95_ms": percentile(tally.token_ms, 95),
        "rounds_per_s": rounds / busy_s,
        "loop_late_p99_ms": percentile(late_ms, 99),
        "stages_p95_ms": {stage: percentile(spent, 95) for stage, spent in tally.stages_ms.items()},
        "errors": sorted(set(tally.failed))[:3],
    }


async def _until_at_rest(shop: Workshop) -> None:
    """Until all histories are read: the engine makes no more rounds."""
    seen = -1
    while seen != shop.scheduler.rounds:
        seen = shop.scheduler.rounds
        await asyncio.sleep(REST_S)


async def _watch(late_ms: list[float]) -> None:
    while True:
        due_s = perf_counter() + 0.01
        await asyncio.sleep(0.01)
        late_ms.append((perf_counter() - due_s) * 1000)


def percentile(values: list[float], percent: float) -> float:
    """Of measured values; infinite when there are none."""
    return float(np.percentile(values, percent)) if values else math.inf


def live(
    shape: str, device: str, crowds: list[int], seconds: float, result: dict[str, Any]
) -> None:
    """Hold each crowd after the other; notes the largest that was answered in time."""
    options = GemmaOptions(
        model=f"random-{shape}",
        device=device,
        dtype="auto",
        context_tokens=4096,
        memory_share=0.8 if device == "cuda" else 0.2,
        slots=None if device == "cuda" else 2 * max(crowds),
        piece_ms=320,
        soft_cache_mib=1024,
        threads=None,
        max_output_tokens=ANSWER_TOKENS,
        summaries=True,
    )
    checkpoint = random_checkpoint(shape, device)
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as in the engine's own process
    asyncio.run(_live(RandomEngine(checkpoint, options), crowds, seconds, result))


async def _live(
    engine: GemmaEngine, crowds: list[int], seconds: float, result: dict[str, Any]
) -> None:
    began_s = perf_counter()
    await engine.start(lambda _doing, _fraction: None)
    result["live_startup_s"] = perf_counter() - began_s
    result["live"], result["live_conversations"] = {}, 0
    for people in crowds:
        held = await hold(engine, people, seconds)
        print(held, flush=True)
        result["live"][str(people)] = held
        if held["first_token_p95_ms"] <= MOST_MS and not held["failed"]:
            result["live_conversations"] = people
    await engine.stop()
