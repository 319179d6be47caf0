"""Exactness: float32 against transformers, and bf16 of both paths against that float32."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from agent.audio.mel import StreamingMel
from agent.engine.gemma.cache import CachePlan
from agent.engine.gemma.encoder import tokens_of
from agent.engine.gemma.graphs import StepShapes
from scripts.engine_bench.driver import Bench, plain_inputs
from scripts.engine_bench.shapes import MEL, OPENING, Samples, noise, random_model, random_text


@torch.no_grad()
def encoder_error(bench: Bench) -> float:
    """Relative difference of the soft tokens, streamed against whole."""
    clip = noise(5.3, 1)
    inputs = plain_inputs(bench, [], clip)
    out = bench.model.model.get_audio_features(
        inputs["input_features"], inputs["input_features_mask"], return_dict=True
    )
    expected = out.pooler_output[out.attention_mask].float()
    ear, mel, tokens, parts = bench.steps.ear, StreamingMel(MEL).push(clip), 0, []
    slot = torch.zeros(1, dtype=torch.int64, device=bench.device)
    while 4 * tokens < len(mel):
        part = torch.zeros(1, 4 * bench.piece, MEL.bins, device=bench.device)
        real = mel[4 * tokens : 4 * (tokens + bench.piece)]
        part[0, : len(real)] = torch.from_numpy(real)
        soft = ear.encoder.encode(ear.state, part, slot + len(real), slot, slot + tokens)
        parts.append(soft[0, : tokens_of(len(real))])
        tokens += bench.piece
    return float((torch.cat(parts).float() - expected).norm() / expected.norm())


@contextmanager
def eager(model: Any) -> Iterator[None]:
    """Have transformers attend by plain matrix products: the reference.

    On CUDA the memory-efficient kernel of torch's `scaled_dot_product_attention` is wrong in
    the last query where one key head is broadcast, a mask is given and the length is one more
    than a multiple of 32 (github.com/pytorch/pytorch/issues/191937): just E2B's layers, whose
    logits after such a prompt are then those of another prompt.
    """
    configs = (model.config.text_config, model.model.language_model.config)
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = "eager"
        yield
    finally:
        for config, kept in zip(configs, before, strict=True):
            config._attn_implementation = kept


def first_difference(bench: Bench, seed: int, count: int) -> float | None:
    """Gap of the two best logits where greedy tokens of both paths first differ, or None."""
    rng = np.random.default_rng(seed)
    history = OPENING + random_text(int(rng.integers(10, 900)), seed)
    clip = noise(float(rng.uniform(0.5, 12.0)), seed)
    return difference(bench, history, clip, count)


@torch.no_grad()
def difference(bench: Bench, history: list[int], clip: Samples, count: int) -> float | None:
    """As `first_difference`, for a history and a clip after it."""
    slot = bench.cache.allocate()
    bench.speak(slot, history, clip)
    ours = [int(bench.steps.best[0])]
    for _ in range(count - 1):
        bench.steps.decode([slot], [bench.cache.length(slot)], [ours[-1]])
        bench.cache.advance(slot, 1)
        ours.append(int(bench.steps.best[0]))
    bench.cache.free(slot)
    with eager(bench.model):
        out = bench.model.generate(
            **plain_inputs(bench, history, clip),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=bench.config.text_config.vocab_size,
            pad_token_id=0,
            suppress_tokens=list(bench.steps.suppress),
            output_logits=True,
            return_dict_in_generate=True,
        )
    for step, (mine, other) in enumerate(
        zip(ours, out.sequences[0, -count:].tolist(), strict=True)
    ):
        if mine != other:
            best = out.logits[step][0].float().topk(2).values
            return float(best[0] - best[1])
    return None


@torch.no_grad()
def closing_logits(bench: Bench, prompts: int, *, plain: bool) -> list[torch.Tensor]:
    """The logits at the end of spoken prompts, by one of the paths."""
    found = []
    for seed in range(prompts):
        rng = np.random.default_rng(100 + seed)
        history = OPENING + random_text(int(rng.integers(10, 300)), seed)
        clip = noise(float(rng.uniform(0.5, 6.0)), seed)
        if plain:
            out = bench.model(**plain_inputs(bench, history, clip), logits_to_keep=1)
            found.append(out.logits[0, -1].float())
        else:
            slot = bench.cache.allocate()
            bench.speak(slot, history, clip)
            found.append(bench.steps.logits[0].clone())
            bench.cache.free(slot)
    return found


def logit_errors(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> list[float]:
    """Relative error of each prompt, media tokens left out."""
    errors = []
    for a, b in zip(actual, expected, strict=True):
        kept = torch.isfinite(a)
        errors.append(float((a - b)[kept].norm() / b[kept].norm()))
    return errors


def exactness(
    shape: str, device: str, prompts: int, prompts_exact: int, result: dict[str, Any]
) -> None:
    """float32 against transformers, then bf16 of both paths against that float32.

    Args:
        shape, device: What of.
        prompts: For the logit errors.
        prompts_exact: For equal tokens.
        result: Takes the figures.
    """
    # cuDNN would round the reference's convolutions to ten bits.
    torch.backends.cudnn.allow_tf32 = False
    shapes = StepShapes(buckets=(1,), close_buckets=(1,))
    plan = CachePlan(4, 2048, 2, shapes.slack_tokens)
    model = random_model(shape, device, torch.float32)
    bench = Bench(model, plan, shapes)
    result["encoder_relative_error"] = encoder_error(bench)
    gaps = [first_difference(bench, seed, 12) for seed in range(prompts_exact)]
    with eager(model):
        reference = closing_logits(bench, prompts, plain=True)
    result["tokens_equal"] = all(gap is None or gap < 1e-4 for gap in gaps)
    result["first_difference_gaps"] = [gap for gap in gaps if gap is not None]
    ours = closing_logits(bench, prompts, plain=False)
    errors = logit_errors(ours, reference)
    result["float32_logit_error"] = statistics.median(errors)
    result["float32_logit_error_worst"] = max(errors)
    del bench
    gc.collect()
    bench = Bench(model.to(torch.bfloat16), plan, shapes)
    ours, plain = (closing_logits(bench, prompts, plain=plain) for plain in (False, True))
    fast = statistics.median(logit_errors(ours, reference))
    stock = statistics.median(logit_errors(plain, reference))
    result["bf16_logit_error"], result["plain_bf16_logit_error"] = fast, stock
    result["bf16_error_ratio"] = fast / stock
