"""Times of both paths: medians in milliseconds."""

from __future__ import annotations

import copy
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from agent.audio.mel import StreamingMel
from scripts.engine_bench.driver import Bench, plain_inputs
from scripts.engine_bench.shapes import MEL, OPENING, Samples, noise, random_text


def first_token_times(
    bench: Bench, seconds: list[float], histories: list[int], repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """End of speech to first token, by length of speech and of history.

    Returns:
        Those times, and the share of the speaker's time that hearing each took.
    """
    times, loads = {}, {}
    for history in histories:
        slot = bench.cache.allocate()
        bench.write(slot, [*OPENING, *random_text(history, history), bench.config.boa_token_id])
        for length in seconds:
            case = f"{length:g} s after {history}"
            snapshot = bench.cache.snapshot(slot)
            clip, mel = noise(length, 7), StreamingMel(MEL)
            bench.sync()
            began = time.perf_counter()
            # The last 20 ms arrive with the end of speech; all before was heard already.
            rest, seen = bench.hear(slot, mel.push(clip[:-320]))
            bench.sync()
            loads[case] = (time.perf_counter() - began) / length
            work = partial(_first_token, bench, slot, mel, rest=rest, seen=seen, tail=clip[-320:])
            times[case] = bench.timed(work, repeats)
            bench.cache.restore(slot, snapshot)
            bench.cache.drop(snapshot)
        bench.cache.free(slot)
    return times, loads


def _first_token(
    bench: Bench, slot: int, mel: StreamingMel, *, rest: Samples, seen: int, tail: Samples
) -> None:
    """The last samples to the first token; what was heard before stays as it was."""
    last = np.concatenate([rest, copy.copy(mel).push(tail)])
    size = 4 * bench.piece
    if len(last) > size:
        start = bench.cache.length(slot)
        bench.steps.hear([slot], [start], [last[:size]], [slot], [seen])
        last, seen = last[size:], seen + bench.piece
    bench.close(slot, last, seen)
    int(bench.steps.best[0])


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
            work = partial(_plain_first_token, bench, noise(length, 7), caches)
            out[f"{length:g} s after {history}"] = bench.timed(work, repeats, warm=1)
    return out


def _plain_first_token(bench: Bench, clip: Samples, caches: list[DynamicCache]) -> None:
    inputs = plain_inputs(bench, [], clip)
    out = bench.model(**inputs, past_key_values=caches.pop(), logits_to_keep=1)
    int(out.logits[0, -1].argmax())


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
    began = _busy_s()
    times, loads = first_token_times(bench, seconds, histories, repeats)
    _note(result, "listen_load_by_case", loads)
    _note(result, "ttft_by_case_ms", times)
    result["ttft_ms"] = statistics.median(times.values())
    low, high = min(times.values()), max(times.values())
    result["ttft_spread_percent"] = 100 * (high - low) / low
    _note(result, "decode_b1_ms", decode_time(bench, 1, context, 2 * repeats))
    _note(result, f"decode_b{rows}_ms", decode_time(bench, rows, context, repeats))
    _note(result, f"listen_b{rows}_ms", listen_time(bench, rows, context, repeats))
    if plain:
        stock = plain_times(bench, seconds, histories[:2], rows, context)
        _note(result, "plain", stock)
        result["ratios"] = {
            key: value / result[key] for key, value in stock.items() if isinstance(value, float)
        }
    wall, own, everybody = (now - then for now, then in zip(_busy_s(), began, strict=True))
    result["cores_busy_for_others"] = max(0.0, everybody - own) / wall


def _note(result: dict[str, Any], name: str, value: Any) -> None:
    """Keep a result, and show it at once: a slow machine may not get to the end."""
    result[name] = value
    print(f"{name}: {value}", file=sys.stderr, flush=True)


def _busy_s() -> tuple[float, float, float]:
    """The clock, and seconds that cores were busy for this process and for everybody."""
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    everybody = (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), time.process_time(), everybody


def plain_times(
    bench: Bench, seconds: list[float], histories: list[int], rows: int, context: int
) -> dict[str, Any]:
    """transformers' times for the same work."""
    times = plain_first_token_times(bench, seconds, histories, 3)
    repeats = 5 if bench.device.type == "cuda" else 2
    return {
        "ttft_by_case_ms": times,
        "ttft_ms": statistics.median(times.values()),
        "decode_b1_ms": plain_decode_time(bench, 1, context, repeats),
        f"decode_b{rows}_ms": plain_decode_time(bench, rows, context, repeats),
    }
