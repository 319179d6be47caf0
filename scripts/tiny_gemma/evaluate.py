"""How often replies are exactly right, on voices that were kept from training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scripts.tiny_gemma.batches import batch
from scripts.tiny_gemma.dialogues import Maker
from scripts.tiny_gemma.shapes import SHAPES, Shape
from scripts.tiny_gemma.sound import Sound
from scripts.tiny_gemma.training import Whole
from scripts.tiny_gemma.voices import Bank

TASKS = {
    "transcribe": ("transcribe", "some"),
    "answer": ("answer", "some"),
    "Spanish": ("Spanish", "some"),
    "German": ("German", "some"),
    "French": ("French", "some"),
    "first": ("first", "some"),
    "before": ("before", "some"),
    "last": ("last", "some"),
    "typed": ("typed", "some"),
    "chat": ("chat", "some"),
    "think": ("think", "one"),
    "one_transcribe": ("transcribe", "one"),
    "one_answer": ("answer", "one"),
    "long_transcribe": ("transcribe", "long"),
    "long_answer": ("answer", "long"),
    "long_before": ("before", "long"),
}


@torch.no_grad()
def right(
    whole: Whole, sound: Sound, plan: Mapping[str, Tensor], shape: Shape, *, clean: bool
) -> Tensor:
    """bool[rows]: whether greedy decoding gives exactly the wanted last reply.

    It does if and only if each of the reply's tokens, the end of the turn included, is the
    best one after the wanted tokens before it: one pass tells.
    """
    device = next(whole.parameters()).device
    plan = {name: values.to(device) for name, values in plan.items()}
    audio = sound.compose(plan, shape.samples)
    if not clean:
        audio = sound.spoil(audio, plan["samples"])
    heard = whole.hear(*sound.mel(audio, plan["samples"]))
    best = whole.logits(whole.read(plan["ids"], plan["audio_index"], heard)).argmax(-1)
    at = torch.arange(best.shape[1], device=device)
    inside = (at >= plan["reply"][:, :1]) & (at < plan["reply"][:, 1:])
    return ((best[:, :-1] == plan["ids"][:, 1:]) | ~inside[:, 1:]).all(1)


def evaluate(
    whole: Whole, sound: Sound, bank: Bank, tokenizer: Any, *, seed: int, rows: int, count: int
) -> dict[str, float]:
    """Share of exact replies for each task, in percent; `clean_*` without any spoiling.

    Args:
        whole: The model.
        sound: Of the voices to test with.
        bank: The same voices.
        tokenizer: The checkpoint's.
        seed: Of the dialogues.
        rows: Conversations at once.
        count: Conversations for each task, at least.
    """
    whole.eval()
    found: dict[str, float] = {}
    for name, (task, kind) in TASKS.items():
        size = max(1, rows // 8) if kind == "long" else rows
        clips = size * (4 if kind == "long" else 1 if kind == "one" else 3)
        shape = dataclasses.replace(SHAPES[kind], rows=size, clips=clips)
        maker = Maker(tokenizer, bank, seed)
        for clean in (False, True):
            good, asked = 0, 0
            while asked < (count // 2 if kind == "long" else count):
                made = batch(maker, bank, shape, task)
                plan = {key: torch.from_numpy(values) for key, values in made.items()}
                good += int(right(whole, sound, plan, shape, clean=clean).sum())
                asked += size
            found[("clean_" if clean else "") + name] = round(100 * good / asked, 2)
    return found
