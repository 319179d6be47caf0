"""A long talk through a translation session: is anything lost, in order, and memory flat?

    python -m scripts.bench_translation                    the recordings, `small`, into English
    python -m scripts.bench_translation --talk digits      spoken digits, the tiny Gemma, Spanish
    python -m scripts.bench_translation --fast             as fast as the server takes it

Starts a server of its own (`tests/helpers/server.py`), plays a talk of `--minutes` made of the
tests' recordings, one after the other with pauses of 0.5 to 1.5 s between them, through the
openai SDK's translation client, and says `session.close` at the end. With `--fast` it is always
`--ahead-s` ahead of what is translated (`inf`: as far as the connection takes it), and the delays
mean nothing. Says on standard error every ten seconds how far it is. Prints one JSON line:

    talk_s, wall_s           how long the talk is, and how long it took
    clips, segments          recordings played; segments that were translated
    failed, incomplete       segments that could not be, or met the token limit
    speech_missed_percent    speech (Silero above 0.5 on the clean recordings) in no segment
    in_order                 segments follow each other, and so does `elapsed_ms` of all texts
    closed                   `session.closed` was last, and the connection was closed with 1000
    clips_missing            recordings of which not a third of the words are in the transcript
    wer                      word errors of the transcript against what is said
    clips_wrong              digits only: recordings whose Spanish is not exactly right
    first_text_p50_s, …      from the end of a segment's speech to its first text
    done_p50_s, …            … to its last
    backlog_max_s            most speech that waited
    memory_mb                of the gateway and of the engine's process, at the end of each minute
    memory_growth_mb_per_10_min  a straight line through what comes after a warm-up of five
                             minutes; null where the talk is too short
    missed                   with --details: speech in no segment (seconds of the talk, recording)
    wrong                    with --details: recordings whose digits are not exact
    heard                    with --details: each segment's start, end and transcript
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import difflib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from openai import AsyncOpenAI
from websockets.exceptions import ConnectionClosedOK

from agent.audio.pcm import SAMPLE_RATE_HZ, encode_pcm16
from agent.vad.scorers import SileroScorer, silero_model_path
from scripts.memory_growth import MemoryOverTime, rss_mb
from scripts.turns_bench.clips import Clip, make_clip
from tests.helpers.server import RunningServer, running_server
from tests.helpers.speech import Recording, recordings
from tests.helpers.wer import normalise, word_errors

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "tests" / "data" / "spoken-digits"
SPANISH = ["cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"]
WIRE_HZ = 24_000
PIECE_S = 0.2
SAMPLE_EVERY_S = 0.5
SAY_EVERY_S = 10.0


@dataclass(frozen=True, eq=False)
class Placed:
    """A recording in the talk: where it begins, in samples, and what is said."""

    clip: Clip
    start: int
    text: str
    language: str


@dataclass
class Talk:
    """What is played.

    Attributes:
        samples: float32[T], 16 kHz.
        placed: The recordings in it.
        server: How the server is started.
        settings: Of the session.
    """

    samples: np.ndarray
    placed: list[Placed]
    server: Callable[[], Any]
    settings: dict[str, Any]


@dataclass
class Heard:
    """What came back."""

    source: str = ""
    translation: str = ""
    elapsed_ms: list[int] = field(default_factory=list)
    segments: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    last: str = ""
    closed_well: bool = False
    wall_s: float = 0.0
    # Of the talk: what the connection has taken, and where the last segment ended that is done.
    sent_s: float = 0.0
    translated_s: float = 0.0
    # By seconds of the talk that were sent.
    memory: dict[str, MemoryOverTime] = field(
        default_factory=lambda: {"gateway": MemoryOverTime(), "engine": MemoryOverTime()}
    )


def main() -> None:
    """Play, and print what was measured."""
    options = parse_options()
    talk = make_talk(options)
    with talk.server() as server:
        heard = asyncio.run(play(server, talk, options.ahead_s if options.fast else None))
    print(json.dumps(summarise(options, talk, heard)))


def parse_options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--talk", choices=("recordings", "digits"), default="recordings")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--fast", action="store_true", help="do not wait for the clock")
    parser.add_argument("--ahead-s", type=float, default=30.0, help="with --fast")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--details", action="store_true", help="name what was missed or wrong")
    return parser.parse_args()


# ------------------------------------------------------------ the talk


def make_talk(options: argparse.Namespace) -> Talk:
    """Recordings one after the other until it is long enough."""
    transcription: dict[str, Any] = {"model": "any"}
    if options.talk == "digits":
        said = json.loads((DIGITS / "manifest.json").read_text("utf-8"))
        found = [Recording(DIGITS / name, entry["digits"]) for name, entry in said.items()]
        transcription["language"] = "en"
        target, arguments = "es", ["--model", str(DIGITS.parent / "tiny-gemma")]
    else:
        found = [one for language in ("en", "de", "es", "fr") for one in recordings(language)]
        target, arguments = "en", []
    scorer = SileroScorer(silero_model_path())
    clips = [
        replace(make_clip(recording, scorer), samples=recording.samples()) for recording in found
    ]
    rng = np.random.default_rng(options.seed)
    pieces: list[np.ndarray] = []
    placed: list[Placed] = []
    length = 0
    while length < options.minutes * 60 * SAMPLE_RATE_HZ:
        for number in rng.permutation(len(clips)):
            clip, recording = clips[number], found[number]
            placed.append(Placed(clip, length, recording.text, recording.language))
            pause = np.zeros(int(rng.uniform(0.5, 1.5) * SAMPLE_RATE_HZ), np.float32)
            pieces += [clip.samples, pause]
            length += clip.samples.size + pause.size
    engine = "gemma" if options.talk == "digits" else "small"
    return Talk(
        np.concatenate(pieces),
        placed,
        lambda: running_server(*arguments, engine=engine),
        {"audio": {"input": {"transcription": transcription}, "output": {"language": target}}},
    )


# ------------------------------------------------------------ playing it


async def play(server: RunningServer, talk: Talk, ahead_s: float | None) -> Heard:
    """Say all of it, close, and collect what comes; `ahead_s` is None to keep to the clock."""
    heard = Heard()
    client = AsyncOpenAI(api_key="any", websocket_base_url=server.base_url)
    began_s = time.monotonic()
    async with client.realtime.translations.connect(
        model="any", extra_query={"extensions": "timings"}
    ) as connection:
        await connection.session.update(session=talk.settings)  # type: ignore[arg-type]
        saying = asyncio.create_task(say(connection, talk, server, heard, ahead_s))
        showing = asyncio.create_task(show_progress(talk, heard, began_s))
        try:
            while True:
                take(heard, json.loads(await connection.recv_bytes()))
        except ConnectionClosedOK as closed:
            heard.closed_well = closed.rcvd is not None and closed.rcvd.code == 1000
        finally:
            showing.cancel()
        await saying
    heard.wall_s = time.monotonic() - began_s
    return heard


async def say(
    connection: Any, talk: Talk, server: RunningServer, heard: Heard, ahead_s: float | None
) -> None:
    """Play the talk, and note the memory now and then."""
    began_s, next_sample_s = time.monotonic(), 0.0
    for number, piece in enumerate(wire_pieces(talk.samples)):
        at_s = number * PIECE_S
        if ahead_s is None:
            await asyncio.sleep(max(0.0, began_s + at_s - time.monotonic()))
        else:
            while at_s > heard.translated_s + ahead_s and not heard.last:  # noqa: ASYNC110
                await asyncio.sleep(PIECE_S)
        await connection.session.input_audio_buffer.append(audio=base64.b64encode(piece).decode())
        heard.sent_s = at_s + PIECE_S
        if at_s >= next_sample_s:
            note_memory(heard, server, at_s)
            next_sample_s = at_s + SAMPLE_EVERY_S
    await connection.session.close()
    while not heard.last:
        await asyncio.sleep(SAMPLE_EVERY_S)
        note_memory(heard, server, talk.samples.size / SAMPLE_RATE_HZ)


async def show_progress(talk: Talk, heard: Heard, began_s: float) -> None:
    """Say now and then how far it is: a talk that stalls looks other than a slow one."""
    talk_s = talk.samples.size / SAMPLE_RATE_HZ
    while True:
        await asyncio.sleep(SAY_EVERY_S)
        print(
            f"{time.monotonic() - began_s:.0f} s: of {talk_s:.0f} s of talk "
            f"{heard.sent_s:.0f} sent, {heard.translated_s:.0f} translated "
            f"in {len(heard.segments)} segments",
            file=sys.stderr,
        )


def wire_pieces(samples: np.ndarray) -> Iterator[bytes]:
    """PCM16 at 24 kHz, 200 ms each."""
    wire = soxr.resample(samples, SAMPLE_RATE_HZ, WIRE_HZ)
    step = int(PIECE_S * WIRE_HZ)
    for at in range(0, len(wire), step):
        yield encode_pcm16(wire[at : at + step])


def take(heard: Heard, event: dict[str, Any]) -> None:
    """Note one event of the server."""
    match event["type"]:
        case "session.input_transcript.delta":
            heard.source += event["delta"]
            heard.elapsed_ms.append(event["elapsed_ms"])
        case "session.output_transcript.delta":
            heard.translation += event["delta"]
            heard.elapsed_ms.append(event["elapsed_ms"])
        case "voice_agent.segment.timings":
            source = heard.source[sum(len(one["source"]) for one in heard.segments) :]
            heard.segments.append(event | {"source": source})
            heard.translated_s = event["end_ms"] / 1000
        case "error":
            heard.errors.append(event["error"]["message"])
        case "session.closed":
            heard.last = event["type"]


def note_memory(heard: Heard, server: RunningServer, at_s: float) -> None:
    """How much the server's processes have now."""
    heard.memory["gateway"].note(at_s, rss_mb([server.process.pid]))
    heard.memory["engine"].note(at_s, rss_mb(server.engine_pids()))


# ------------------------------------------------------------ what came of it


def summarise(options: argparse.Namespace, talk: Talk, heard: Heard) -> dict[str, Any]:
    """All figures; see the module."""
    segments = heard.segments
    first = [one["speech_end_to_first_text_ms"] for one in segments]
    spans = [(one["start_ms"], one["end_ms"]) for one in segments]
    missed = missed_speech(talk.placed, spans)
    found = transcribed_shares(talk.placed, heard.source)
    errors = word_errors(
        " ".join(normalise(one.text, one.language) for one in talk.placed),
        normalise(heard.source, "en"),
    )
    summary = {
        "talk": options.talk,
        "fast": options.fast,
        "talk_s": round(talk.samples.size / SAMPLE_RATE_HZ, 1),
        "wall_s": round(heard.wall_s, 1),
        "clips": len(talk.placed),
        "segments": len(segments),
        "failed": sum(one["status"] == "failed" for one in segments),
        "incomplete": sum(one["status"] == "incomplete" for one in segments),
        "errors": len(heard.errors),
        "speech_missed_percent": round(missed_percent(talk.placed, missed), 3),
        "in_order": heard.elapsed_ms == sorted(heard.elapsed_ms)
        and all(one[1] <= other[0] for one, other in pairwise(spans)),
        "closed": heard.last == "session.closed" and heard.closed_well,
        "clips_missing": sum(share < 1 / 3 for share in found),
        "wer": round(errors.rate, 4),
        **quantiles("first_text", [ms for ms in first if ms is not None]),
        **quantiles("done", [one["speech_end_to_done_ms"] for one in segments]),
        "backlog_max_s": max(one["backlog_s"] for one in segments),
        "memory_mb": {name: one.by_minute() for name, one in heard.memory.items()},
        "memory_growth_mb_per_10_min": {
            name: one.growth_per_10_min() for name, one in heard.memory.items()
        },
    }
    if options.talk == "digits":
        wrong = wrong_digits(talk.placed, heard)
        summary["clips_wrong"] = len(wrong)
        if options.details:
            summary["wrong"] = [described(talk.placed[number]) for number in wrong]
    if options.details:
        summary["heard"] = [
            [one["start_ms"] / 1000, one["end_ms"] / 1000, one["source"].strip()]
            for one in segments
        ]
        summary["missed"] = [asdict(one) for one in missed]
    return summary


def described(one: Placed) -> dict[str, Any]:
    """A recording and its place, for people."""
    return {"name": one.clip.name, "at_s": one.start / SAMPLE_RATE_HZ, "said": one.text}


def transcribed_shares(placed: Sequence[Placed], source: str) -> list[float]:
    """Of each recording, the share of its words that are in the transcript at its place."""
    words = [normalise(one.text, one.language).split() for one in placed]
    owner = [number for number, said in enumerate(words) for _ in said]
    said = [word for one in words for word in one]
    matcher = difflib.SequenceMatcher(None, said, normalise(source, "en").split(), autojunk=False)
    hits = [0] * len(placed)
    for block in matcher.get_matching_blocks():
        for place in range(block.a, block.a + block.size):
            hits[owner[place]] += 1
    return [hit / max(1, len(one)) for hit, one in zip(hits, words, strict=True)]


@dataclass(frozen=True)
class Missed:
    """Speech in no segment: where in the talk, and in which recording."""

    name: str
    at_s: float
    samples: int


def missed_speech(placed: Sequence[Placed], spans_ms: Sequence[tuple[int, int]]) -> list[Missed]:
    """Every piece of speech that no segment has."""
    end = placed[-1].start + placed[-1].clip.samples.size
    is_heard = np.zeros(end + SAMPLE_RATE_HZ, bool)
    for start_ms, end_ms in spans_ms:
        # Rounded down to a millisecond on the wire; the resampler holds nothing back at the end.
        is_heard[start_ms * 16 : (end_ms + 1) * 16] = True
    missed = []
    for one in placed:
        for start, stop in one.clip.speech:
            lost = np.flatnonzero(~is_heard[one.start + start : one.start + stop])
            if lost.size:
                at_s = (one.start + start + int(lost[0])) / SAMPLE_RATE_HZ
                missed.append(Missed(one.clip.name, round(at_s, 2), lost.size))
    return missed


def missed_percent(placed: Sequence[Placed], missed: Sequence[Missed]) -> float:
    """Share of the samples of speech."""
    speech = sum(stop - start for one in placed for start, stop in one.clip.speech)
    return 100 * sum(one.samples for one in missed) / speech


def wrong_digits(placed: Sequence[Placed], heard: Heard) -> list[int]:
    """Recordings whose digits or whose Spanish is not exactly right, by alignment."""
    said = " ".join(one.text for one in placed).split()
    owner = [number for number, one in enumerate(placed) for _ in one.text.split()]
    wrong: set[int] = set()
    for got, wanted in (
        (heard.source.split(), said),
        (heard.translation.split(), [SPANISH[int(digit)] for digit in said]),
    ):
        matcher = difflib.SequenceMatcher(None, wanted, got, autojunk=False)
        for kind, start, stop, _, _ in matcher.get_opcodes():
            if kind != "equal":
                first = min(start, len(owner) - 1)  # what is too much counts for its neighbour
                wrong.update(owner[first : max(stop, first + 1)])
    return sorted(wrong)


def quantiles(name: str, values_ms: Sequence[float]) -> dict[str, float | None]:
    """Median and 95th percentile, in seconds."""
    if not values_ms:
        return {f"{name}_p50_s": None, f"{name}_p95_s": None}
    p50, p95 = np.percentile(values_ms, [50, 95]) / 1000
    return {f"{name}_p50_s": round(float(p50), 2), f"{name}_p95_s": round(float(p95), 2)}


if __name__ == "__main__":
    main()
