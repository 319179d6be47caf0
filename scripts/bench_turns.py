"""How well turns are taken: cut short, late, false, interrupted; measured, not felt.

    python -m scripts.bench_turns                        all parts, in real time, minutes
    python -m scripts.bench_turns --only pauses          pauses inside and between sentences
    python -m scripts.bench_turns --only noise --fast    hours of noise and music
    python -m scripts.bench_turns --only interruptions   speech and backchannels over answers
    python -m scripts.bench_turns --offline              pauses and noise without a server
    python -m scripts.bench_turns --eagerness high       another semantic_vad

Builds dialogues from the recordings of the tests (see `tests/helpers/speech.py`); what they
lack is generated (`scripts/turns_bench/sounds.py`). Starts a server with the embedded engine,
or uses the one at `--url`. Every dialogue is played under `server_vad` and `semantic_vad` in
the same run. Progress goes to standard error; the last line on standard output is JSON, an
object for each setting. docs/evaluation.md says what each figure means. The same options give
the same dialogues.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from agent.config import load_settings
from scripts.gateway_bench.server import machine_busy_s
from scripts.turns_bench import offline
from scripts.turns_bench.clips import Clip, load_clips
from scripts.turns_bench.dialogues import Dialogue, build_pause_dialogues
from scripts.turns_bench.figures import (
    Speechless,
    detail,
    false_turns,
    interruption_figures,
    tally_by_noise,
)
from scripts.turns_bench.interruptions import interrupt, interrupting_sounds
from scripts.turns_bench.judging import Judge
from scripts.turns_bench.observed import Observation
from scripts.turns_bench.playing import ServerAddress, play_pieces
from scripts.turns_bench.settings import gap_s, speechless_sounds, turn_detections
from tests.helpers.server import running_server

PARTS = ("pauses", "noise", "interruptions")
NOISE_MINUTES = 16.0
FAST_NOISE_MINUTES = 120.0
Report = dict[str, dict[str, Any]]
Result = TypeVar("Result")


def main() -> None:
    """Run the parts asked for and print the figures."""
    options = parse_options()
    clips = load_clips(options.lang)[: options.recordings]
    began_s = time.monotonic()
    settings = turn_detections(options.eagerness, options.silence_ms)
    report: Report = {name: {} for name in settings}
    cores_busy: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        server = None if options.offline else address(options, stack)
        for part in options.only:
            with cores(part, cores_busy):
                for name, figures in asyncio.run(run(part, clips, options, server)).items():
                    report[name] |= figures
                    say(f"{part}, {name}: {json.dumps(figures)}")
    line = {
        **report,
        "eagerness": options.eagerness,
        "played": played(options),
        "recordings": len(clips),
        "seconds": round(time.monotonic() - began_s, 1),
        "cores": os.cpu_count(),
        "cores_busy": cores_busy,
    }
    print(json.dumps(line))


def parse_options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; may be repeated")
    parser.add_argument("--url", help="address of a running server; else one is started")
    parser.add_argument("--api-key-file", help="file with the server's API key")
    parser.add_argument("--fast", action="store_true", help="faster than real time")
    parser.add_argument("--offline", action="store_true", help="no server, simulated time")
    parser.add_argument("--words", action="store_true", help="offline: judge pauses by words too")
    parser.add_argument("--kept", type=Path, help="offline: file that keeps judgements")
    parser.add_argument("--eagerness", default="medium", choices=("low", "medium", "high", "auto"))
    parser.add_argument("--silence-ms", type=int, default=500, help="of server_vad")
    parser.add_argument("--lang", help="only recordings in this language")
    parser.add_argument("--recordings", type=int, help="only so many of them")
    parser.add_argument("--rounds", type=int, default=4, help="each has every recording once")
    parser.add_argument("--noise-minutes", type=float, help="sound without speech, a setting")
    parser.add_argument("--interruptions", type=int, default=20, help="sentences over answers")
    parser.add_argument("--backchannels", type=int, default=24, help="over answers")
    parser.add_argument("--seed", type=int, default=1, help="another one: other dialogues")
    parser.add_argument("--details", type=Path, help="file for all pauses and turns, JSON lines")
    parser.add_argument("--connections", type=int, default=8, help="sessions at once")
    options = parser.parse_args()
    if options.offline and options.only and "interruptions" in options.only:
        parser.error("interruptions need a server: leave --offline out")
    if options.fast and options.only == ["interruptions"]:
        parser.error("interruptions are played in real time: leave --fast out")
    skipped = options.offline or options.fast
    options.only = options.only or [one for one in PARTS if one != "interruptions" or not skipped]
    if options.noise_minutes is None:
        options.noise_minutes = FAST_NOISE_MINUTES if skipped else NOISE_MINUTES
    return options


def played(options: argparse.Namespace) -> str:
    """How, for the report."""
    if options.offline:
        return "offline"
    return "fast" if options.fast else "real time"


def address(options: argparse.Namespace, stack: contextlib.ExitStack) -> ServerAddress:
    """The server to use; one that is started ends with `stack`."""
    if options.url:
        key = options.api_key_file and Path(options.api_key_file).read_text("utf-8").strip()
        return ServerAddress(options.url, key)
    say("starting a server")
    started = stack.enter_context(running_server())
    return ServerAddress(started.url, logs=started.logs)


@contextlib.contextmanager
def cores(part: str, into: dict[str, float]) -> Iterator[None]:
    """Note how many cores of the machine were busy meanwhile, with whatever."""
    busy_s, began_s = machine_busy_s(), time.monotonic()
    yield
    into[part] = round((machine_busy_s() - busy_s) / (time.monotonic() - began_s), 2)


async def run(
    part: str, clips: list[Clip], options: argparse.Namespace, server: ServerAddress | None
) -> Report:
    """One part under every setting."""
    settings = turn_detections(options.eagerness, options.silence_ms)
    if part == "pauses":
        wait_s = gap_s(options.eagerness, options.silence_ms)
        dialogues = build_pause_dialogues(
            clips, rounds=options.rounds, gap_s=wait_s, seed=options.seed
        )
        if server is None:
            return await pauses_offline(dialogues, settings, options)
        return await pauses(dialogues, settings, options, server)
    if part == "noise":
        if server is None:
            return await noise_offline(settings, options)
        return await noise(settings, options, server)
    assert server is not None
    return await interruptions(clips, settings, options, server)


async def pauses(
    dialogues: list[Dialogue],
    settings: dict[str, dict[str, Any]],
    options: argparse.Namespace,
    server: ServerAddress,
) -> Report:
    """Play all dialogues under all settings."""

    async def play(setting: str, dialogue: Dialogue) -> Observation:
        return await play_pieces(server, [dialogue.samples], settings[setting], fast=options.fast)

    found = await for_all(settings, dialogues, play, options.connections)
    return pause_figures(found, options.details)


async def noise(
    settings: dict[str, dict[str, Any]], options: argparse.Namespace, server: ServerAddress
) -> Report:
    """Play sound without speech under all settings."""
    sounds = speechless_sounds(options.seed)
    each_s = options.noise_minutes * 60 / len(sounds)

    async def play(setting: str, sound: Any) -> Observation:
        return await play_pieces(server, sound.blocks(each_s), settings[setting], fast=options.fast)

    return {
        name: false_turns([Speechless(s.name, each_s / 3600, len(seen.turns)) for s, seen in pairs])
        for name, pairs in (await for_all(settings, sounds, play, options.connections)).items()
    }


async def interruptions(
    clips: list[Clip],
    settings: dict[str, dict[str, Any]],
    options: argparse.Namespace,
    server: ServerAddress,
) -> Report:
    """Speak over answers; two at a time, or the engine would be slower than anybody speaks."""
    sounds = interrupting_sounds(
        clips,
        interruptions=options.interruptions,
        backchannels=options.backchannels,
        seed=options.seed,
    )

    async def play(setting: str, sound: Any) -> Any:
        return await interrupt(server, settings[setting], sound)

    done = await for_all(settings, sounds, play, min(2, options.connections))
    return {
        name: interruption_figures([result for _, result in pairs]) for name, pairs in done.items()
    }


async def pauses_offline(
    dialogues: list[Dialogue], settings: dict[str, dict[str, Any]], options: argparse.Namespace
) -> Report:
    """The same in this process."""
    server = load_settings()
    judge = Judge(server, words=options.words, kept=options.kept)
    scores = await offline.score_all([dialogue.samples for dialogue in dialogues], server.vad)
    found = {
        name: [
            (dialogue, offline.observe(dialogue.samples, scored, detection, server, judge))
            for dialogue, scored in zip(dialogues, scores, strict=True)
        ]
        for name, detection in settings.items()
    }
    judge.keep()
    return pause_figures(found, options.details)


def pause_figures(
    found: dict[str, list[tuple[Dialogue, Observation]]], details: Path | None
) -> Report:
    """The figures of every setting; all pauses and turns go to the file `details`."""
    if details is not None:
        lines = [
            json.dumps({"setting": name} | detail(dialogue, seen))
            for name, pairs in found.items()
            for dialogue, seen in pairs
        ]
        details.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {name: tally_by_noise(pairs) for name, pairs in found.items()}


async def noise_offline(settings: dict[str, dict[str, Any]], options: argparse.Namespace) -> Report:
    """The same in this process, each sound in one piece of up to five minutes."""
    server = load_settings()
    judge = Judge(server, words=options.words, kept=options.kept)
    sounds = speechless_sounds(options.seed)
    each_s = options.noise_minutes * 60 / len(sounds)
    found: dict[str, list[Speechless]] = {name: [] for name in settings}
    for number, sound in enumerate(sounds):
        say(f"{sound.name} ({number + 1} of {len(sounds)})")
        samples = np.concatenate(list(sound.blocks(each_s)))
        scored = (await offline.score_all([samples], server.vad))[0]
        for name, detection in settings.items():
            seen = offline.observe(samples, scored, detection, server, judge)
            found[name].append(Speechless(sound.name, each_s / 3600, len(seen.turns)))
    return {name: false_turns(results) for name, results in found.items()}


async def for_all(
    settings: Iterable[str],
    things: list[Any],
    play: Callable[[str, Any], Awaitable[Result]],
    at_once: int,
) -> dict[str, list[tuple[Any, Result]]]:
    """Play everything under every setting, side by side, `at_once` at a time."""
    names = list(settings)
    room = asyncio.Semaphore(at_once)
    done = 0

    async def one(name: str, thing: Any) -> Result:
        nonlocal done
        async with room:
            result = await play(name, thing)
        done += 1
        say(f"{done} of {len(things) * len(names)}: {name}, {thing.name}")
        return result

    jobs = [(name, thing) for thing in things for name in names]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(name, thing)) for name, thing in jobs]
    found: dict[str, list[tuple[Any, Result]]] = {name: [] for name in names}
    for (name, thing), task in zip(jobs, tasks, strict=True):
        found[name].append((thing, task.result()))
    return found


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
