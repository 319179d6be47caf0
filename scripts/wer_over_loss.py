"""Word error rates over WebRTC, on a good network and on a bad one.

    python -m scripts.wer_over_loss                            5 % loss, up to 50 ms of jitter
    python -m scripts.wer_over_loss --rounds 5 --loss 0.1      another network
    python -m scripts.wer_over_loss --burst 4                  as many, four in a row
    python -m scripts.wer_over_loss --no-copies                a sender without in-band FEC

Starts the real server with the embedded engine and plays the recordings of the tests
(VOICE_AGENT_SPEECH_DIR, see scripts/wer.py) to it in real time, over a few calls at once: in each
round once as they are, and once with packets lost and late by a seed of the round. Each recording
is sent as Opus that was encoded before, with a copy of each packet in the next one, as browsers do
when they are told of loss. Prints one JSON line:

    wer_clean, wer_lossy     over all rounds
    points                   their difference, in percentage points; and of each round
    lost, packets            of the bad network
    turns_clean, turns_lossy    turns that the server found: as many where no turn breaks
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from tests.helpers.opus import COPIES
from tests.helpers.peer import OpusMicrophone, Peer, peer
from tests.helpers.server import running_server
from tests.helpers.speech import Recording, recordings
from tests.helpers.wer import WordErrors, differences, total, word_errors

LANGUAGE = "en"
SILENCE_MS = 1_000
SETTLE_S = 2.5
"""After a recording: the silence that ends its turn, and then some."""

COMMITTED = "input_audio_buffer.committed"
HEARD = "conversation.item.input_audio_transcription.completed"
FAILED = "conversation.item.input_audio_transcription.failed"
SESSION = {
    "type": "transcription",
    "audio": {
        "input": {
            "transcription": {"model": "any", "language": LANGUAGE},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": SILENCE_MS},
        }
    },
}


@dataclass
class Heard:
    """What was heard of some recordings."""

    errors: list[WordErrors] = field(default_factory=list)
    turns: int = 0
    packets: int = 0
    lost: int = 0

    def add(self, other: Heard) -> None:
        self.errors += other.errors
        self.turns += other.turns
        self.packets += other.packets
        self.lost += other.lost

    @property
    def rate(self) -> float:
        return total(self.errors).rate


async def play(
    clips: Sequence[Recording], url: str, options: argparse.Namespace, seed: int | None
) -> Heard:
    """Say recordings over one call; without a seed the network is good."""
    microphone = OpusMicrophone(**({} if options.no_copies else COPIES))
    heard = Heard()
    async with peer(url, SESSION, microphone=microphone) as client:
        counts = [0, 0]
        if seed is not None:
            counts = client.impair(options.loss, options.jitter_ms / 1000, seed, options.burst)
        for clip in clips:
            said = await say(client, microphone, clip.samples())
            heard.turns += sum(event["type"] == COMMITTED for event in said)
            text = " ".join(event["transcript"] for event in said if event["type"] == HEARD)
            errors = word_errors(clip.text, text, clip.language)
            heard.errors.append(errors)
            if options.show and errors.errors:
                found = "; ".join(differences(clip.text, text, clip.language))
                print(f"{clip.path.stem} ({'good' if seed is None else seed}): {found}", flush=True)
        heard.packets, heard.lost = counts
    return heard


async def say(client: Peer, microphone: OpusMicrophone, samples: np.ndarray) -> list[dict]:
    """Play one recording, and wait until all of it was transcribed; the events meanwhile."""
    before = len(client.events)
    microphone.say(samples)
    while not microphone.is_silent:  # noqa: ASYNC110  # it is only a number
        await asyncio.sleep(0.05)
    await asyncio.sleep(SETTLE_S)
    while True:
        events = client.events[before:]
        kinds = [event["type"] for event in events]
        if kinds.count(COMMITTED) <= kinds.count(HEARD) + kinds.count(FAILED):
            return events
        await asyncio.sleep(0.05)


async def play_all(
    clips: Sequence[Recording], url: str, options: argparse.Namespace, seed: int | None
) -> Heard:
    """Say all recordings over several calls at once."""
    calls = [clips[at :: options.calls] for at in range(options.calls)]
    parts = await asyncio.gather(
        *(
            play(some, url, options, None if seed is None else seed * 100 + number)
            for number, some in enumerate(calls)
            if some
        )
    )
    heard = Heard()
    for part in parts:
        heard.add(part)
    return heard


async def measure(url: str, options: argparse.Namespace) -> dict[str, object]:
    """All rounds."""
    clips = recordings(LANGUAGE)[: options.recordings]
    clean, lossy, by_round = Heard(), Heard(), []
    for number in range(options.rounds):
        good = await play_all(clips, url, options, None)
        bad = await play_all(clips, url, options, options.seed + number)
        by_round.append(round(100 * (bad.rate - good.rate), 2))
        clean.add(good)
        lossy.add(bad)
    return {
        "recordings": len(clips),
        "words": total(clean.errors).words,
        "rounds": options.rounds,
        "seed": options.seed,
        "loss": options.loss,
        "burst": options.burst,
        "jitter_ms": options.jitter_ms,
        "copies": not options.no_copies,
        "wer_clean": round(clean.rate, 4),
        "wer_lossy": round(lossy.rate, 4),
        "points": round(100 * (lossy.rate - clean.rate), 2),
        "points_by_round": by_round,
        "packets": lossy.packets,
        "lost": lossy.lost,
        "turns_clean": clean.turns,
        "turns_lossy": lossy.turns,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--calls", type=int, default=3, help="calls at once")
    parser.add_argument("--loss", type=float, default=0.05, help="share of packets")
    parser.add_argument("--burst", type=float, help="packets lost in a row, in the mean")
    parser.add_argument("--jitter-ms", type=float, default=50.0, help="largest delay")
    parser.add_argument("--no-copies", action="store_true", help="send no in-band FEC")
    parser.add_argument("--recordings", type=int, help="only the first so many")
    parser.add_argument("--show", action="store_true", help="print what was heard differently")
    parser.add_argument("--url", help="a running server, instead of starting one")
    options = parser.parse_args()
    with ExitStack() as stack:
        url = options.url or stack.enter_context(running_server()).url
        print(json.dumps(asyncio.run(measure(url, options))), flush=True)


if __name__ == "__main__":
    main()
