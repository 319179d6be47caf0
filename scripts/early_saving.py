"""What early work saves, measured in one run: without it, with recognition only, with answers.

    python -m scripts.early_saving                  recordings of 4 to 6 s, twice each
    python -m scripts.early_saving --repeat 3 --most 10

Starts three servers with the embedded engine that differ in `early.work` alone and plays each
recording into one after the other, in a conversation of its own, so that whatever else the
machine does hits all three. Prints one JSON line:

    recordings, rounds, silence_ms, pairs
    after_turn_ms        of each setting: median time from the end of the turn to the first token
    first_token_ms       of each setting: median time from the end of speech to the first token
    saved_ms             of `recognition` and `answers`: median saving against `none`, by pairs
    possible_ms          median of min(first-token time of `none`, silence limit - early pause)
    saved_percent        of what is possible: the ratio of the medians
    early_answers        how many were begun, kept, dropped, failed

A pair is one recording in one round; only those heard as one turn everywhere count.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from agent.config import VadSettings
from scripts.playing import play, recordings_between
from tests.helpers.server import RunningServer, running_server

WORK = ("none", "recognition", "answers")
# Only the first is measured.
OUTPUT_TOKENS = "16"


def main() -> None:
    """Play, and print what was measured."""
    options = parse_options()
    files = recordings_between(options.lang, options.from_s, options.to_s)[: options.most]
    with ExitStack() as stack:
        servers = {
            work: stack.enter_context(
                running_server(
                    VOICE_AGENT_EARLY__WORK=work,
                    VOICE_AGENT_MAX_OUTPUT_TOKENS=OUTPUT_TOKENS,
                    VOICE_AGENT_VAD__SILENCE_DURATION_MS=str(options.silence_ms),
                )
            )
            for work in WORK
        }
        pairs = [
            pair
            for _ in range(options.repeat)
            for file in files
            if (pair := measure(servers, file, options.lang)) is not None
        ]
        counts = early_answers(servers["answers"])
    if not pairs:
        sys.exit("no recording was heard as one turn")
    report = {"recordings": len(files), "rounds": options.repeat, "silence_ms": options.silence_ms}
    report |= summarise(pairs, options.silence_ms)
    print(json.dumps(report | {"early_answers": counts}))


def parse_options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from-s", type=float, default=4.0)
    parser.add_argument("--to-s", type=float, default=6.0)
    parser.add_argument("--most", type=int, default=8, help="recordings at most")
    parser.add_argument(
        "--silence-ms", type=int, default=VadSettings().silence_duration_ms, help="silence limit"
    )
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--lang", default="en", help="only recordings in this language")
    return parser.parse_args()


Times = dict[str, tuple[float, float]]
"""By setting: end of speech to first token, and how much of that was endpointing; in ms."""


def measure(servers: dict[str, RunningServer], file: Path, language: str) -> Times | None:
    """Play a recording into every server; None unless each heard one turn and answered it."""
    times: Times = {}
    for work, server in servers.items():
        turns = play([file], language, "--url", server.ws_url)
        if len(turns) != 1 or turns[0]["speech_end_to_first_token_ms"] is None:
            return None
        (turn,) = turns
        times[work] = (turn["speech_end_to_first_token_ms"], turn["stages_ms"]["endpointing"])
    print({work: round(first_ms) for work, (first_ms, _) in times.items()}, file=sys.stderr)
    return times


def summarise(pairs: list[Times], silence_ms: int) -> dict[str, Any]:
    """Medians over pairs."""
    window_ms = silence_ms - VadSettings().early_pause_ms
    after = [{work: first - end for work, (first, end) in pair.items()} for pair in pairs]
    possible_ms = median(min(pair["none"], window_ms) for pair in after)
    saved_ms = {
        work: median(pair["none"][0] - pair[work][0] for pair in pairs) for work in WORK[1:]
    }
    return {
        "pairs": len(pairs),
        "after_turn_ms": {work: round(median(pair[work] for pair in after)) for work in WORK},
        "first_token_ms": {work: round(median(pair[work][0] for pair in pairs)) for work in WORK},
        "saved_ms": {work: round(ms) for work, ms in saved_ms.items()},
        "possible_ms": round(possible_ms),
        "saved_percent": {work: round(100 * ms / possible_ms) for work, ms in saved_ms.items()},
    }


def early_answers(server: RunningServer) -> dict[str, int]:
    """Early answers by outcome."""
    pattern = r'^voice_agent_early_answers_total\{outcome="(\w+)"\} (\S+)$'
    found = re.findall(pattern, server.get("/metrics"), re.MULTILINE)
    return {outcome: int(float(count)) for outcome, count in found}


if __name__ == "__main__":
    main()
