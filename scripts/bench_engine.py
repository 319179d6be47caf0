"""Measure the resident Gemma 4 engine against transformers' plain path, in one process.

    python scripts/bench_engine.py --shape e2b|e4b|tiny --device cuda|cpu

Random weights: the shapes are the real ones, the words are not. First exactness in float32
(encoder and greedy tokens against transformers), then bf16 error, then times. *First token*
is from the end of speech: the last mel frames, the last piece of the encoder, the closing
text and the first token back on the host. *Plain* is transformers' eager path with the
history cached: the whole clip at the end of speech. Times are medians in milliseconds.

Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    DynamicCache,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent.audio.mel import MelParameters, StreamingMel
from agent.engine.gemma.cache import CachePlan
from agent.engine.gemma.encoder import tokens_of
from agent.engine.gemma.graphs import Steps, StepShapes, build_ear

EXTRACTOR = Gemma4AudioFeatureExtractor()
MEL = MelParameters.from_extractor(EXTRACTOR)
RATE_HZ = 16_000
OPENING = [2, 105, 2364, 107]
CLOSING = [258_883, 106, 107, 105, 4368, 107]

SIZES = {
    "e2b": {"layers": 35, "full_every": 5, "hidden": 1536, "ffn": 6144, "kv": 1, "shared": 20},
    "e4b": {"layers": 42, "full_every": 6, "hidden": 2560, "ffn": 10240, "kv": 2, "shared": 18},
    "tiny": {"layers": 10, "full_every": 5, "hidden": 128, "ffn": 256, "kv": 1, "shared": 5},
}


def shape_config(shape: str) -> Gemma4Config:
    """The published shapes of E2B and E4B, or a tiny one; no vision tower."""
    sizes, tiny = SIZES[shape], shape == "tiny"
    kinds = [
        "full_attention" if (index + 1) % sizes["full_every"] == 0 else "sliding_attention"
        for index in range(sizes["layers"])
    ]
    text = {
        "vocab_size": 262_144,
        "vocab_size_per_layer_input": 262_144,
        "hidden_size": sizes["hidden"],
        "intermediate_size": sizes["ffn"],
        "num_hidden_layers": sizes["layers"],
        "layer_types": kinds,
        "num_kv_shared_layers": sizes["shared"],
        "num_attention_heads": 8,
        "num_key_value_heads": sizes["kv"],
        "head_dim": 32 if tiny else 256,
        "global_head_dim": 64 if tiny else 512,
        "sliding_window": 512,
        "hidden_size_per_layer_input": 16 if tiny else 256,
        "use_double_wide_mlp": shape == "e2b",
        "final_logit_softcapping": 30.0,
        "max_position_embeddings": 131_072,
    }
    audio: dict[str, Any] = {}
    if tiny:
        audio = {"hidden_size": 64, "num_hidden_layers": 2, "output_proj_dims": 96}
        audio["num_attention_heads"] = 4
    return Gemma4Config(text_config=text, audio_config=audio, vision_config=None)


def random_model(shape: str, device: str, dtype: torch.dtype) -> Any:
    """A model of that shape with random weights, made where it is used."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = Gemma4ForConditionalGeneration(shape_config(shape))
    finally:
        torch.set_default_dtype(before)
    # Attention has no scale of its own: with the norms' neutral weights random queries and
    # keys make it a hard maximum, which any rounding tips over. Trained weights do not.
    for layer in model.model.language_model.layers:
        layer.self_attn.q_norm.weight.data.fill_(layer.self_attn.head_dim**-0.5)
    return model.eval().requires_grad_(requires_grad=False)


def noise(seconds: float, seed: int) -> np.ndarray:
    """White noise that long."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(seconds * RATE_HZ))).astype(np.float32)


def random_text(count: int, seed: int) -> list[int]:
    """So many ordinary tokens."""
    return np.random.default_rng(seed).integers(1000, 200_000, count).tolist()


class Bench:
    """One model with its steps, and the ways to drive them."""

    def __init__(self, model: Any, plan: CachePlan, shapes: StepShapes) -> None:
        self.model, self.config, self.device = model, model.config, model.device
        began = time.perf_counter()
        media = (self.config.image_token_id, self.config.audio_token_id, self.config.video_token_id)
        self.steps = Steps(build_ear(model, plan, shapes.piece_tokens), shapes, media)
        self.cache = self.steps.ear.decoder.cache
        self.piece = shapes.piece_tokens
        self.spent_s = {"pack": time.perf_counter() - began} | self.steps.prepare()
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

    def speak(self, slot: int, history: list[int], clip: np.ndarray) -> None:
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


def plain_inputs(bench: Bench, ids: list[int], clip: np.ndarray) -> dict[str, torch.Tensor]:
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


@torch.no_grad()
def first_difference(bench: Bench, seed: int, count: int) -> float | None:
    """Gap of the two best logits where greedy tokens of both paths first differ, or None."""
    rng = np.random.default_rng(seed)
    history = OPENING + random_text(int(rng.integers(10, 900)), seed)
    clip = noise(float(rng.uniform(0.5, 12.0)), seed)
    slot = bench.cache.allocate()
    bench.speak(slot, history, clip)
    ours = [int(bench.steps.best[0])]
    for _ in range(count - 1):
        bench.steps.decode([slot], [bench.cache.length(slot)], [ours[-1]])
        bench.cache.advance(slot, 1)
        ours.append(int(bench.steps.best[0]))
    bench.cache.free(slot)
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


def logit_error(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Median over prompts of the relative error, media tokens left out."""
    errors = []
    for a, b in zip(actual, expected, strict=True):
        kept = torch.isfinite(a)
        errors.append(float((a - b)[kept].norm() / b[kept].norm()))
    return statistics.median(errors)


def first_token_times(
    bench: Bench, seconds: list[float], histories: list[int], repeats: int
) -> dict[str, float]:
    """End of speech to first token, by length of speech and of history."""
    out = {}
    for history in histories:
        slot = bench.cache.allocate()
        bench.write(slot, [*OPENING, *random_text(history, history), bench.config.boa_token_id])
        for length in seconds:
            snapshot = bench.cache.snapshot(slot)
            clip, mel = noise(length, 7), StreamingMel(MEL)
            # The last 20 ms arrive with the end of speech; all before was heard already.
            rest, seen = bench.hear(slot, mel.push(clip[:-320]))

            def work(
                mel: StreamingMel = mel,
                rest: np.ndarray = rest,
                seen: int = seen,
                tail: np.ndarray = clip[-320:],
                slot: int = slot,
            ) -> None:
                last = np.concatenate([rest, copy.copy(mel).push(tail)])
                size = 4 * bench.piece
                if len(last) >= size:
                    start = bench.cache.length(slot)
                    bench.steps.hear([slot], [start], [last[:size]], [slot], [seen])
                    last, seen = last[size:], seen + bench.piece
                bench.close(slot, last, seen)
                int(bench.steps.best[0])

            out[f"{length:g} s after {history}"] = bench.timed(work, repeats)
            bench.cache.restore(slot, snapshot)
            bench.cache.drop(snapshot)
        bench.cache.free(slot)
    return out


@torch.no_grad()
def plain_first_token_times(
    bench: Bench, seconds: list[float], histories: list[int], repeats: int
) -> dict[str, float]:
    """The same for transformers: features, encoder and forward at the end, history cached."""
    out = {}
    for history in histories:
        base = DynamicCache(config=bench.config.text_config)
        ids = torch.tensor([OPENING + random_text(history, history)], device=bench.device)
        bench.model(input_ids=ids, past_key_values=base, logits_to_keep=1)
        for length in seconds:
            caches = [copy.deepcopy(base) for _ in range(repeats + 1)]

            def work(
                clip: np.ndarray = noise(length, 7), caches: list[DynamicCache] = caches
            ) -> None:
                inputs = plain_inputs(bench, [], clip)
                out = bench.model(**inputs, past_key_values=caches.pop(), logits_to_keep=1)
                int(out.logits[0, -1].argmax())

            out[f"{length:g} s after {history}"] = bench.timed(work, repeats, warm=1)
    return out


def decode_time(bench: Bench, rows: int, context: int, repeats: int) -> float:
    """One decoding step of so many rows, tokens back on the host."""
    slots = bench.fill(rows, context)

    def work() -> None:
        bench.steps.decode(slots, [context] * rows, list(range(1000, 1000 + rows)))
        bench.steps.best[:rows].tolist()

    took = bench.timed(work, repeats)
    bench.empty(slots)
    return took


def listen_time(bench: Bench, rows: int, context: int, repeats: int) -> float:
    """One piece of so many speakers."""
    slots = bench.fill(rows, context)
    mel = StreamingMel(MEL).push(noise(0.7, 3))[: 4 * bench.piece]

    def work() -> None:
        bench.steps.hear(slots, [context] * rows, [mel] * rows, slots, [8] * rows)

    took = bench.timed(work, repeats)
    bench.empty(slots)
    return took


@torch.no_grad()
def plain_decode_time(bench: Bench, rows: int, context: int, repeats: int) -> float:
    """One eager decoding step of transformers."""
    cache = DynamicCache(config=bench.config.text_config)
    ids = torch.tensor([random_text(context, 1)] * rows, device=bench.device)
    bench.model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
    token = torch.full((rows, 1), 1000, device=bench.device)

    def work() -> None:
        out = bench.model(input_ids=token, past_key_values=cache)
        out.logits[:, -1].argmax(-1).tolist()

    return bench.timed(work, repeats)


def measure(bench: Bench, result: dict[str, Any], *, plain: bool) -> None:
    """All the times, into `result`."""
    gpu = bench.device.type == "cuda"
    repeats = 20 if gpu else 3
    seconds, histories = ([2.0, 5.0, 15.0, 29.9], [0, 2000, 8000]) if gpu else ([5.0, 29.9], [0])
    rows, context = (64, 1500) if gpu else (2, 300)
    result["decode_b1_ms"] = decode_time(bench, 1, context, 2 * repeats)
    result[f"decode_b{rows}_ms"] = decode_time(bench, rows, context, repeats)
    result[f"listen_b{rows}_ms"] = listen_time(bench, rows, context, repeats)
    times = first_token_times(bench, seconds, histories, repeats)
    result["ttft_by_case_ms"] = times
    result["ttft_ms"] = statistics.median(times.values())
    low, high = min(times.values()), max(times.values())
    result["ttft_spread_percent"] = 100 * (high - low) / low
    if not plain:
        return
    times = plain_first_token_times(bench, seconds, histories[:2], 3)
    stock: dict[str, Any] = {"ttft_by_case_ms": times, "ttft_ms": statistics.median(times.values())}
    stock["decode_b1_ms"] = plain_decode_time(bench, 1, context, 5)
    stock[f"decode_b{rows}_ms"] = plain_decode_time(bench, rows, context, 5)
    result["plain"] = stock
    result["ratios"] = {key: stock[key] / result[key] for key in stock if key.endswith("_ms") and
                        isinstance(stock[key], float)}  # fmt: skip


def exactness(args: argparse.Namespace, result: dict[str, Any]) -> None:
    """float32 against transformers, then bf16 of both paths against that float32."""
    # cuDNN would round the reference's convolutions to ten bits.
    torch.backends.cudnn.allow_tf32 = False
    shapes = StepShapes(buckets=(1,), close_buckets=(1,))
    plan = CachePlan(4, 2048, 2, shapes.slack_tokens)
    model = random_model(args.shape, args.device, torch.float32)
    bench = Bench(model, plan, shapes)
    result["encoder_relative_error"] = encoder_error(bench)
    gaps = [first_difference(bench, seed, 12) for seed in range(args.prompts_exact)]
    result["tokens_equal"] = all(gap is None or gap < 1e-4 for gap in gaps)
    result["first_difference_gaps"] = [gap for gap in gaps if gap is not None]
    reference = closing_logits(bench, args.prompts, plain=True)
    ours = closing_logits(bench, args.prompts, plain=False)
    result["float32_logit_error"] = logit_error(ours, reference)
    del bench
    gc.collect()
    bench = Bench(model.to(torch.bfloat16), plan, shapes)
    fast = logit_error(closing_logits(bench, args.prompts, plain=False), reference)
    stock = logit_error(closing_logits(bench, args.prompts, plain=True), reference)
    result["bf16_logit_error"], result["plain_bf16_logit_error"] = fast, stock
    result["bf16_error_ratio"] = fast / stock


def print_table(result: dict[str, Any]) -> None:
    """Every number, one a line."""
    for key, value in result.items():
        group = value if isinstance(value, dict) else {"": value}
        for name, number in group.items():
            shown = f"{number:.4g}" if isinstance(number, float) else number
            print(f"{key + ('.' + name if name else ''):44} {shown}")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--shape", choices=tuple(SIZES), default="tiny")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--prompts", type=int, default=20, help="for the bf16 error")
    parser.add_argument("--prompts-exact", type=int, default=4, help="for equal tokens")
    parser.add_argument("--no-exact", action="store_true", help="times only")
    parser.add_argument("--no-times", action="store_true", help="exactness only")
    parser.add_argument("--no-plain", action="store_true", help="not transformers' times")
    args = parser.parse_args()
    gpu, shapes = args.device == "cuda", StepShapes()
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "shape": args.shape,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if not args.no_exact:
        exactness(args, result)
        print_table(result)
        gc.collect()
        if gpu:
            torch.cuda.empty_cache()
    if args.no_times:
        print(json.dumps(result))
        return
    model = random_model(args.shape, args.device, torch.bfloat16)
    plan = CachePlan(66 if gpu else 4, 10_240 if gpu else 2048, 4, shapes.slack_tokens)
    bench = Bench(model, plan, shapes)
    result["startup_s"], result["startup_by_step_s"] = bench.startup_s, bench.spent_s
    result["cache_gib"] = bench.cache.nbytes / 2**30
    measure(bench, result, plain=not args.no_plain)
    print_table(result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
