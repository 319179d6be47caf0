"""Word error rates over recordings with transcripts.

    python -m scripts.wer                        through a running server, in real time
    python -m scripts.wer server recogniser      … beside the recogniser on whole files
    python -m scripts.wer server joined          … beside 100 s of speech without pauses
    python -m scripts.wer --fast --lang de       not in real time; another language

The recordings are those of the tests (VOICE_AGENT_SPEECH_DIR: `manifest.jsonl` with one
object a line, `id`, `lang` and `text`, and `ID.wav`). `server` and `joined` need a server
(scripts/serve); what it hears is taken from `voice-agent say --json --no-answer`.
`recogniser` gives whole files to the embedded engine's recogniser, without segmenter or
server. Prints tables on standard error, then one JSON line on standard output.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import wave
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from agent.audio.pcm import encode_pcm16
from agent.engine.small.recogniser import Recogniser
from agent.models.store import ModelStore
from scripts.playing import play
from tests.helpers.speech import Recording, recordings
from tests.helpers.wer import WordErrors, differences, normalise, total, word_errors

RATE_HZ = 16_000
JOINED_S = 100.0
MEASURES = ("server", "recogniser", "joined")


@dataclass(frozen=True, slots=True)
class Result:
    """What was heard in one recording."""

    said: Recording
    heard: str

    @property
    def errors(self) -> WordErrors:
        return word_errors(self.said.text, self.heard, self.said.language)


def main() -> None:
    """Run the measurements named on the command line."""
    options = parse_options()
    clips = recordings(options.lang)
    summary: dict[str, object] = {"lang": options.lang, "recordings": len(clips)}
    for measure in options.measures:
        with tempfile.TemporaryDirectory() as folder:
            if measure == "server":
                results = hear_through_server(clips, options)
            elif measure == "joined":
                results = hear_through_server([join(clips, Path(folder))], options)
            else:
                results = hear_with_recogniser(clips)
        show(measure, results)
        counted = total(result.errors for result in results)
        summary[measure] = {
            "wer": round(counted.rate, 4),
            "errors": counted.errors,
            "words": counted.words,
        }
    print(json.dumps(summary))


def parse_options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "measures", nargs="*", default=["server"], metavar="MEASURE", help=", ".join(MEASURES)
    )
    parser.add_argument("--lang", default="en", help="only recordings in this language")
    parser.add_argument("--url", help="address of the server")
    parser.add_argument("--api-key-file", help="file with the server's API key")
    parser.add_argument("--fast", action="store_true", help="do not play in real time")
    options = parser.parse_args()
    if unknown := set(options.measures) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    return options


def join(clips: Sequence[Recording], folder: Path) -> Recording:
    """One recording of at least `JOINED_S` seconds: the clips, again and again, no pauses."""
    pieces, texts = [], []
    for clip in itertools.cycle(clips):
        pieces.append(clip.samples())
        # Numbers of neighbours would become one: "… thirteen", "eight …" is not 18138.
        texts.append(normalise(clip.text, clip.language))
        if sum(piece.size for piece in pieces) >= JOINED_S * RATE_HZ:
            break
    path = folder / "joined.wav"
    with wave.open(str(path), "wb") as file:
        file.setsampwidth(2)
        file.setnchannels(1)
        file.setframerate(RATE_HZ)
        file.writeframes(encode_pcm16(np.concatenate(pieces)))
    return Recording(path, " ".join(texts), clips[0].language)


def hear_through_server(clips: Sequence[Recording], options: argparse.Namespace) -> list[Result]:
    """What a running server hears: the transcripts of all turns of a file, in order."""
    more = ["--no-answer"]
    more += ["--fast"] if options.fast else []
    more += ["--url", options.url] if options.url else []
    more += ["--api-key-file", options.api_key_file] if options.api_key_file else []
    heard = defaultdict(list)
    for turn in play([clip.path for clip in clips], options.lang, *more):
        heard[turn["file"]].append(turn["transcript"])
    return [Result(clip, " ".join(heard[str(clip.path)])) for clip in clips]


def hear_with_recogniser(clips: Sequence[Recording]) -> list[Result]:
    """What the embedded engine's recogniser hears when it is given each file whole."""
    folder = ModelStore().ensure("whisper-base", lambda doing, _: print(doing, file=sys.stderr))
    recogniser = Recogniser(folder, threads=os.cpu_count() or 1)
    return [Result(clip, recogniser.hear(clip.samples(), clip.language).text) for clip in clips]


def show(measure: str, results: Sequence[Result]) -> None:
    """A table of one measurement: every recording, and where it was heard differently."""
    table = Table("recording", "words", "errors", "said → heard", title=measure)
    for result in results:
        said, errors = result.said, result.errors
        differing = "; ".join(differences(said.text, result.heard, said.language))
        table.add_row(said.path.stem, str(errors.words), str(errors.errors), differing)
    counted = total(result.errors for result in results)
    table.add_section()
    table.add_row("all", str(counted.words), str(counted.errors), f"{counted.rate:.1%}")
    Console(stderr=True).print(table)


if __name__ == "__main__":
    main()
