"""Time from the end of speech to the first token of the answer, through a running server.

    python -m scripts.first_token                     recordings of 4 to 6 s, three times each
    python -m scripts.first_token --from-s 2 --to-s 4 --repeat 5

The recordings are those of the tests (see `tests/helpers/speech.py`), played in real time by
`voice-agent say --json`, each round in a conversation of its own. Only recordings that the
server heard as one turn count: a part of one is shorter. Prints one JSON line:

    turns, split         turns measured; recordings that were heard as several
    median_ms, slowest_ms
    stages_ms            medians of the shares that the server reports
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from statistics import median
from typing import Any

from scripts.playing import play, recordings_between


def main() -> None:
    """Play, and print what was measured."""
    options = parse_options()
    files = recordings_between(options.lang, options.from_s, options.to_s)
    more = ["--url", options.url] if options.url else []
    turns, split = [], 0
    for _ in range(options.repeat):
        played = play(files, options.lang, *more)
        parts = Counter(turn["file"] for turn in played)
        split += sum(count > 1 for count in parts.values())
        turns += [turn for turn in played if parts[turn["file"]] == 1]
    if not turns:
        sys.exit("every recording was heard as several turns")
    print(json.dumps({"recordings": len(files), "split": split, **summarise(turns)}))


def parse_options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from-s", type=float, default=4.0)
    parser.add_argument("--to-s", type=float, default=6.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--lang", default="en", help="only recordings in this language")
    parser.add_argument("--url", help="address of the server")
    return parser.parse_args()


def summarise(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over turns, in milliseconds."""
    first_ms = [turn["speech_end_to_first_token_ms"] for turn in turns]
    stages = sorted({name for turn in turns for name in turn["stages_ms"]})
    return {
        "turns": len(turns),
        "median_ms": round(median(first_ms)),
        "slowest_ms": round(max(first_ms)),
        "stages_ms": {
            name: round(median(turn["stages_ms"].get(name, 0.0) for turn in turns))
            for name in stages
        },
    }


if __name__ == "__main__":
    main()
