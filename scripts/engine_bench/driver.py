"""One model with its steps, and the ways to drive them and transformers' plain path."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from agent.audio.mel import StreamingMel
from agent.engine.gemma.cache import CachePlan
from agent.engine.gemma.encoder import tokens_of
from agent.engine.gemma.graphs import Steps, StepShapes, build_ear
from agent.engine.gemma.pieces import PIECES_TOKENS, choose_piece_tokens
from scripts.engine_bench.shapes import CLOSING, EXTRACTOR, MEL, OPENING, Samples, random_text


class Bench:
    """One model with its steps, and the ways to drive them."""

    def __init__(self, model: Any, plan: CachePlan, shapes: StepShapes) -> None:
        self.model, self.config, self.device = model, model.config, model.device
        began = time.perf_counter()
        longest = shapes.piece_tokens if self.device.type == "cuda" else max(PIECES_TOKENS)
        ear = build_ear(model, plan, longest)
        packed_s = time.perf_counter() - began
        self.choice = choose_piece_tokens(ear)
        shapes = replace(shapes, piece_tokens=self.choice.tokens)
        chosen_s = time.perf_counter() - began - packed_s
        media = (self.config.image_token_id, self.config.audio_token_id, self.config.video_token_id)
        self.steps = Steps(ear, shapes, media)
        self.cache = ear.decoder.cache
        self.piece = shapes.piece_tokens
        self.spent_s = {"pack": packed_s, "choose": chosen_s} | self.steps.prepare()
        self.startup_s = time.perf_counter() - began

    def write(self, slot: int, ids: list[int]) -> None:
        """Read text into a slot."""
        size = self.steps.shapes.read_tokens
        for at in range(0, len(ids), size):
            part = ids[at : at + size]
            self.steps.read([slot], [self.cache.length(slot)], [part])
            self.cache.advance(slot, len(part))

    def hear(self, slot: int, mel: np.ndarray) -> tuple[np.ndarray, int]:
        """All whole pieces; what is left, and the tokens heard."""
        seen = 0
        while len(mel) >= 4 * (seen + self.piece):
            part = mel[4 * seen : 4 * (seen + self.piece)]
            self.steps.hear([slot], [self.cache.length(slot)], [part], [slot], [seen])
            self.cache.advance(slot, self.piece)
            seen += self.piece
        return mel[4 * seen :], seen

    def close(self, slot: int, rest: np.ndarray, seen: int) -> int:
        """End the clip; tokens written."""
        start = self.cache.length(slot)
        return self.steps.close([slot], [start], [rest], [slot], [seen], [CLOSING])[0]

    def speak(self, slot: int, history: list[int], clip: Samples) -> None:
        """A whole turn: history, clip, closing text."""
        self.write(slot, [*history, self.config.boa_token_id])
        rest, seen = self.hear(slot, StreamingMel(MEL).push(clip))
        self.cache.advance(slot, self.close(slot, rest, seen))

    def timed(self, work: Callable[[], object], repeats: int, warm: int = 2) -> float:
        """Median milliseconds of `work`, its results awaited."""
        times = []
        for turn in range(warm + repeats):
            self.sync()
            began = time.perf_counter()
            work()
            self.sync()
            if turn >= warm:
                times.append((time.perf_counter() - began) * 1e3)
        return statistics.median(times)

    def sync(self) -> None:
        """Wait for the GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def fill(self, rows: int, context: int) -> list[int]:
        """So many slots of so many tokens."""
        slots = [self.cache.allocate() for _ in range(rows)]
        self.write(slots[0], OPENING + random_text(context - len(OPENING), 1))
        for slot in slots[1:]:
            self.cache.copy(slots[0], slot)
        return slots

    def empty(self, slots: list[int]) -> None:
        """Give slots back."""
        for slot in slots:
            self.cache.free(slot)


def plain_inputs(bench: Bench, ids: list[int], clip: Samples) -> dict[str, torch.Tensor]:
    """What transformers' forward takes for `ids`, then a clip and the closing text."""
    config = bench.config
    count = tokens_of(MEL.valid_frames(len(clip)))
    full = [*ids, config.boa_token_id, *[config.audio_token_id] * count, *CLOSING]
    features = EXTRACTOR([clip], return_tensors="pt")
    return {
        "input_ids": torch.tensor([full], device=bench.device),
        "input_features": features["input_features"].to(bench.device, bench.model.dtype),
        "input_features_mask": features["input_features_mask"].to(bench.device),
    }
