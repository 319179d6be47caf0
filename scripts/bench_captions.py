"""Live captions through a running server: when words appear, and whether they are right.

    python -m scripts.bench_captions                 every English recording once
    python -m scripts.bench_captions --joined-s 60   also a minute of them without pauses
    python -m scripts.bench_captions --offline       no server, simulated time

The recordings are those of the tests (see `tests/helpers/speech.py`), each played in real time
into a transcription session of its own. The delay of a word is from the moment at which its
last sample was sent to the moment at which the delta with it came, so the playing client is
not counted. Offline, time is audio time and the recogniser takes the CPU time it took, as if
it had a core of its own (`scripts/captions_offline.py`).
When a word ends in a recording is taken from offline Whisper, the same model as the embedded
engine's, by its alignment of words to sound (cross-attention and dynamic time warping; good to
about 0.1 s, and late rather than early before pauses). Words that the captions have otherwise
than offline Whisper have no time and are not counted in the delays.
Prints one JSON line:

    words, timed                words said; words whose delay is known
    delay_p50_s, delay_p95_s    of all of these
    live_percent                share of them that came before the turn was over
    wer, wer_offline            of the final transcripts, of the recogniser on whole files
    wer_shown                   of the deltas joined, which are never corrected
    differing                   turns whose deltas joined are not the final transcript
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soxr
from faster_whisper import WhisperModel

from agent.client import connect
from agent.client.player import PIECE_S, Player
from agent.client.turns import TurnTracker
from agent.config import ScorerName
from agent.engine.small.recogniser import Recogniser
from agent.gateway.app import load_scorer
from agent.models.store import ModelStore
from scripts.captions_offline import OfflineSession
from tests.helpers.speech import Recording, recordings
from tests.helpers.wer import normalise, total, word_errors

RATE_HZ = 16_000
PATIENCE_S = 60.0
DELTA = "conversation.item.input_audio_transcription.delta"


@dataclass(frozen=True, slots=True)
class Clip:
    """Something to play: its samples, what is said, and when each word ends as heard offline."""

    samples: np.ndarray
    text: str
    language: str
    ends: list[tuple[str, float]]


@dataclass(slots=True)
class Played:
    """What came of one clip."""

    clip: Clip
    shown: str = ""
    transcripts: list[str] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)
    live: int = 0
    turns: int = 0
    differing: int = 0


def main() -> None:
    """Play, and print what was measured."""
    options = parse_options()
    said = recordings(options.lang)
    folder = ModelStore().ensure("whisper-base", lambda doing, _: print(doing, file=sys.stderr))
    aligner = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    clips = [align(aligner, recording) for recording in said]
    recogniser = Recogniser(folder, threads=1)
    offline = total(
        word_errors(clip.text, recogniser.hear(clip.samples, clip.language).text, clip.language)
        for clip in clips
    )
    summary: dict[str, object] = {
        "lang": options.lang,
        "recordings": len(clips),
        "simulated": options.offline,
    }
    if options.offline:
        scorer = load_scorer(ScorerName.AUTO, lambda doing, _: print(doing, file=sys.stderr))
        session = OfflineSession(recogniser, scorer)

        def one_clip(clip: Clip) -> Played:
            return play_offline(session, clip)

    else:

        def one_clip(clip: Clip) -> Played:
            return asyncio.run(play(options, clip))

    played = [one_clip(clip) for clip in clips]
    summary |= {**summarise(played), "wer_offline": round(offline.rate, 4)}
    if options.joined_s:
        one = one_clip(join(clips, options.joined_s))
        summary["joined"] = {"seconds": options.joined_s, **summarise([one])}
    print(json.dumps(summary))


def parse_options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lang", default="en", help="only recordings in this language")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="address of the server")
    parser.add_argument("--offline", action="store_true", help="no server, simulated time")
    parser.add_argument("--joined-s", type=float, default=0.0, help="least length of the join")
    return parser.parse_args()


def align(whisper: WhisperModel, recording: Recording) -> Clip:
    """A recording with the ends of its words, in seconds."""
    samples = recording.samples()
    segments, _ = whisper.transcribe(
        samples,
        language=recording.language,
        beam_size=1,
        word_timestamps=True,
        condition_on_previous_text=False,
    )
    ends = [
        (key, float(word.end))
        for segment in segments
        for word in segment.words or ()
        for key in keys(word.word)
    ]
    return Clip(samples, recording.text, recording.language, ends)


def join(clips: list[Clip], least_s: float) -> Clip:
    """The clips one after the other, again and again, without pauses between them."""
    pieces, texts, ends, start_s = [], [], [], 0.0
    while start_s < least_s:
        clip = clips[len(pieces) % len(clips)]
        pieces.append(clip.samples)
        texts.append(normalise(clip.text, clip.language))
        ends += [(key, start_s + end_s) for key, end_s in clip.ends]
        start_s += clip.samples.size / RATE_HZ
    return Clip(np.concatenate(pieces), " ".join(texts), clips[0].language, ends)


class Reader:
    """Follows the events of one clip's session.

    Args:
        played: Filled as they come.
    """

    def __init__(self, played: Played) -> None:
        self._played = played
        self._shown: dict[str, str] = {}
        self._over: set[str] = set()
        self._arrivals: list[tuple[str, float, bool]] = []

    def receive(self, event: dict[str, Any], now: float) -> None:
        """Take an event that came at `now`, in seconds."""
        kind, item, played = event["type"], event.get("item_id", ""), self._played
        if kind == "input_audio_buffer.speech_stopped":
            self._over.add(item)
        elif kind == DELTA:
            self._shown[item] = self._shown.get(item, "") + event["delta"]
            live = item not in self._over
            self._arrivals += [(key, now, live) for key in keys(event["delta"])]
        elif kind.endswith("transcription.completed"):
            shown = self._shown.get(item, "")
            played.turns += 1
            played.differing += shown != event["transcript"]
            played.shown += f" {shown}"
            played.transcripts.append(event["transcript"])

    def measure(self, sent_at: Callable[[float], float | None]) -> None:
        """Count the delays; `sent_at` says when the sample at a time in the clip was sent."""
        ends, played = self._played.clip.ends, self._played
        said, shown = [key for key, _ in ends], [key for key, _, _ in self._arrivals]
        matcher = difflib.SequenceMatcher(None, said, shown, autojunk=False)
        for block in matcher.get_matching_blocks():
            for offset in range(block.size):
                spoken_at = sent_at(ends[block.a + offset][1])
                _, arrived_at, live = self._arrivals[block.b + offset]
                if spoken_at is not None:
                    played.delays_s.append(arrived_at - spoken_at)
                    played.live += live


async def play(options: argparse.Namespace, clip: Clip) -> Played:
    """Speak a clip into a session of its own and note when its words come."""
    session = {
        "type": "transcription",
        "audio": {"input": {"transcription": {"language": clip.language}}},
    }
    played = Played(clip)
    reader, tracker = Reader(played), TurnTracker(transcripts=True, answers=False)
    async with connect(options.url, session=session) as client:
        player = Player(client.send_audio, client.input_format)

        async def receive() -> None:
            async for event in client:
                now = time.monotonic()
                tracker.receive(event, now)
                reader.receive(event, now)

        receiving = asyncio.create_task(receive())
        await player.play(
            soxr.resample(clip.samples, RATE_HZ, client.input_format.rate_hz), paced=True
        )
        await player.play_silence(1.0, paced=True)
        waited_s = 0.0
        while tracker.waiting_for() and waited_s < PATIENCE_S and not receiving.done():
            await player.play_silence(PIECE_S, paced=True)
            waited_s += PIECE_S
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    reader.measure(lambda end_s: player.sent_at(end_s * 1000))
    return played


def play_offline(session: OfflineSession, clip: Clip) -> Played:
    """The same in simulated time."""
    played = Played(clip)
    reader = Reader(played)
    for sent in session.play(clip.samples, clip.language):
        reader.receive(sent.event, sent.at_s)
    reader.measure(lambda end_s: end_s)
    return played


def keys(text: str) -> list[str]:
    """Words as they are matched: lower case, letters and digits alone."""
    words = ("".join(filter(str.isalnum, word.casefold())) for word in text.split())
    return [word for word in words if word]


def summarise(played: list[Played]) -> dict[str, object]:
    """The figures of some clips together."""
    delays = np.array([delay for one in played for delay in one.delays_s])
    final = total(
        word_errors(one.clip.text, " ".join(one.transcripts), one.clip.language) for one in played
    )
    shown = total(word_errors(one.clip.text, one.shown, one.clip.language) for one in played)
    return {
        "turns": sum(one.turns for one in played),
        "words": final.words,
        "timed": len(delays),
        "delay_p50_s": round(float(np.median(delays)), 2),
        "delay_p95_s": round(float(np.percentile(delays, 95)), 2),
        "live_percent": round(100 * sum(one.live for one in played) / len(delays), 1),
        "wer": round(final.rate, 4),
        "wer_shown": round(shown.rate, 4),
        "differing": sum(one.differing for one in played),
    }


if __name__ == "__main__":
    main()
