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
import gc
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent.engine.gemma.cache import CachePlan
from agent.engine.gemma.graphs import StepShapes
from scripts.engine_bench.driver import Bench
from scripts.engine_bench.exactness import exactness
from scripts.engine_bench.live import live
from scripts.engine_bench.shapes import SIZES, random_model
from scripts.engine_bench.timing import measure


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
    parser.add_argument("--live", type=int, nargs="*", default=[], metavar="PEOPLE")
    parser.add_argument("--live-seconds", type=float, default=30.0, help="for each number")
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
        exactness(args.shape, args.device, args.prompts, args.prompts_exact, result)
        print_table(result)
        gc.collect()
        if gpu:
            torch.cuda.empty_cache()
    if args.live:
        live(args.shape, args.device, args.live, args.live_seconds, result)
        gc.collect()
        if gpu:
            torch.cuda.empty_cache()
    if args.no_times:
        print_table(result)
        print(json.dumps(result))
        return
    model = random_model(args.shape, args.device, torch.bfloat16)
    plan = CachePlan(66 if gpu else 4, 10_240 if gpu else 2048, 4, shapes.slack_tokens)
    bench = Bench(model, plan, shapes)
    result["startup_s"], result["startup_by_step_s"] = bench.startup_s, bench.spent_s
    result["piece_tokens"] = bench.choice.tokens
    result["piece_loads"] = {str(size): load for size, load in bench.choice.loads.items()}
    result["cache_gib"] = bench.cache.nbytes / 2**30
    measure(bench, result, plain=not args.no_plain)
    print_table(result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
