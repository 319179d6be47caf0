"""Train the tiny Gemma 4 checkpoint that hears spoken digits (tests/data/tiny-gemma).

    python -m scripts.train_tiny_gemma --out DIR [--device cuda] [--minutes 4]

Speaks digits with espeak-ng in many voices, composes conversations about them, trains a
Gemma 4 of fewer than 5 million parameters on them, and says how often it is exactly right on
voices it has not heard. The last line of the output is one JSON object.

Needs, beside the extra `gemma`: `pip install espeakng-loader soxr`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_model

from scripts.tiny_gemma import folder, training
from scripts.tiny_gemma.evaluate import evaluate
from scripts.tiny_gemma.shapes import SHAPES, Shape
from scripts.tiny_gemma.sound import Sound
from scripts.tiny_gemma.voices import Bank, Run, make_runs

REHEARSAL = {
    "one": Shape(rows=4, clips=4, seconds=3.2, tokens=224, turns=1),
    "some": Shape(rows=2, clips=6, seconds=3.2, tokens=320, turns=3),
    "long": Shape(rows=1, clips=2, seconds=12.0, tokens=512, turns=2),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training alone")
    parser.add_argument("--runs", type=int, default=40_000, help="runs of speech to make")
    parser.add_argument("--peak", type=float, default=1.5e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", type=Path, help="folder of a checkpoint to train further")
    parser.add_argument("--tests", type=int, default=1024, help="conversations for each figure")
    parser.add_argument("--rehearse", action="store_true", help="tiny batches, to try the code")
    return parser.parse_args()


def sound_of(runs: list[Run], device: torch.device) -> Sound:
    """What the runs sound like, on the device."""
    return Sound(torch.from_numpy(np.concatenate([run.samples for run in runs])), device)


def main() -> None:
    """Speak, train, test, save."""
    options = arguments()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # it does not survive forks
    device = torch.device(options.device)
    processes = len(os.sched_getaffinity(0))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True)

    tokenizer = folder.make_tokenizer()
    runs = make_runs(options.runs, test=False, seed=options.seed, processes=processes)
    unheard = make_runs(options.runs // 8, test=True, seed=options.seed + 1, processes=processes)
    say(f"{len(runs)} runs of speech to train with, {len(unheard)} to test with")

    model = folder.make_model(folder.make_config(tokenizer), seed=options.seed)
    if options.resume:
        load_model(model, str(options.resume / "model.safetensors"))
    whole = training.Whole(model).to(device)
    if device.type == "cuda":
        training.use_fused_norms()
    steps = training.train(
        whole,
        sound_of(runs, device),
        Bank(runs),
        tokenizer,
        seconds=60 * options.minutes,
        peak=options.peak,
        workers=0 if options.rehearse else max(3, processes - 2),
        seed=options.seed,
        started=1.0 if options.resume else 0.0,
        shapes=REHEARSAL if options.rehearse else SHAPES,
    )
    say(f"trained {steps} steps")

    # What is tested is what is saved: weights rounded to 16 bit, computed in 32.
    copied = folder.make_model(model.config, seed=options.seed)
    copied.load_state_dict(model.state_dict())
    folder.save(options.out, copied, tokenizer)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).to(torch.float32)
    rows = 4 if options.rehearse else 256
    figures = evaluate(
        whole, sound_of(unheard, device), Bank(unheard), tokenizer,
        seed=options.seed, rows=rows, count=options.tests,
    )  # fmt: skip
    say("tested")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"steps": steps, "parameters": parameters, "exact_percent": figures}))


if __name__ == "__main__":
    main()
