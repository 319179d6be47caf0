"""Speaks over running answers: sentences, which must stop them, and backchannels, which must not.

Every trial has a session of its own: a typed question asks for a long answer, the microphone
is silent until the answer has been running for a while, and then hears one sound.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.audio.pcm import SAMPLE_RATE_HZ, Samples
from agent.client import ClientSession, connect
from agent.client.player import PIECE_S, Player
from scripts.turns_bench.clips import Clip, speech_reached
from scripts.turns_bench.figures import Interruption
from scripts.turns_bench.playing import ServerAddress
from scripts.turns_bench.settings import INPUT_FORMAT
from scripts.turns_bench.sounds import BACKCHANNELS, at_level

INSTRUCTIONS = "You tell very long stories with many details, and never stop early."
QUESTION = "Tell me a very long story about a ship and the people on it."
ATTEMPTS = 3
# The answer has been running for so long when it is interrupted.
RUNNING_S = (0.3, 1.0)
# After the sound, until what comes of it has come.
AFTER_S = 1.5
BACKCHANNEL_DBFS = -28.0
_SPEECH_S = 1.6
_LEAD_SAMPLES = SAMPLE_RATE_HZ // 10
_INTERRUPTING_SAMPLES = SAMPLE_RATE_HZ // 5
_FIRST_TEXT_TIMEOUT_S = 90.0


@dataclass(frozen=True, eq=False)
class Sound:
    """What is heard over an answer.

    Attributes:
        kind: `speech`, or which backchannel.
        samples: float32[T], mono, 16 kHz.
        interrupts_at: How many samples of it hold 200 ms of speech; None for a backchannel.
        running_s: How long the answer has been running when it comes.
        said: The recording, or which backchannel.
    """

    kind: str
    samples: Samples
    interrupts_at: int | None
    running_s: float
    said: str

    @property
    def name(self) -> str:
        """For the progress."""
        return f"{self.said} over an answer"


def interrupting_sounds(
    clips: Sequence[Clip], *, interruptions: int, backchannels: int, seed: int = 1
) -> list[Sound]:
    """Beginnings of sentences and backchannels of every kind, in a mixed order."""
    rng = np.random.default_rng((seed, 17))
    sounds = [
        _sentence(clips[number % len(clips)], float(rng.uniform(*RUNNING_S)))
        for number in range(interruptions)
    ]
    kinds = tuple(BACKCHANNELS)
    for number in range(backchannels):
        kind = kinds[number % len(kinds)]
        made = BACKCHANNELS[kind](np.random.default_rng((seed, number)))
        running_s = float(rng.uniform(*RUNNING_S))
        sounds.append(Sound(kind, at_level(made, BACKCHANNEL_DBFS), None, running_s, kind))
    return [sounds[index] for index in rng.permutation(len(sounds))]


def _sentence(clip: Clip, running_s: float) -> Sound:
    """The first 1.6 s of what is said in a clip, or all of it."""
    start = max(0, clip.onset - _LEAD_SAMPLES)
    end = min(clip.samples.size, clip.onset + int(_SPEECH_S * SAMPLE_RATE_HZ))
    reached = speech_reached(clip.speech, _INTERRUPTING_SAMPLES)
    return Sound("speech", clip.samples[start:end], reached - start, running_s, clip.name)


@dataclass
class Answer:
    """One answer as it is received; times in seconds.

    Attributes:
        first_text_at, last_text_at: When text came.
        done_at: When it was over.
        cancelled: Whether it was cancelled by a turn.
        announced: Whether speech was announced.
    """

    response_id: str | None = None
    first_text_at: float | None = None
    last_text_at: float | None = None
    done_at: float | None = None
    cancelled: bool = False
    announced: bool = False

    def take(self, event: Mapping[str, Any], now: float) -> None:
        """Follow one server event; only the first response counts."""
        kind = event["type"]
        if kind == "response.created":
            self.response_id = self.response_id or event["response"]["id"]
        elif kind == "response.output_text.delta" and event["response_id"] == self.response_id:
            self.first_text_at = self.first_text_at or now
            self.last_text_at = now
        elif kind == "response.done" and event["response"]["id"] == self.response_id:
            self.done_at = now
            details = event["response"].get("status_details") or {}
            self.cancelled = (
                event["response"]["status"] == "cancelled"
                and details.get("reason") == "turn_detected"
            )
        elif kind == "input_audio_buffer.speech_started":
            self.announced = True


async def interrupt(
    server: ServerAddress, turn_detection: Mapping[str, Any], sound: Sound
) -> Interruption:
    """One trial; tried again when the answer was over before it could be interrupted."""
    for _ in range(ATTEMPTS):
        result = await _try_once(server, turn_detection, sound)
        if result.running:
            break
    return result


async def _try_once(
    server: ServerAddress, turn_detection: Mapping[str, Any], sound: Sound
) -> Interruption:
    settings = {
        "instructions": INSTRUCTIONS,
        "audio": {"input": {"turn_detection": dict(turn_detection)}},
    }
    answer = Answer()
    async with connect(
        server.url,
        api_key=server.api_key,
        session=settings,
        input_format=INPUT_FORMAT,
        open_timeout_s=30,
    ) as session:
        receiver = asyncio.create_task(_follow(session, answer))
        try:
            player = Player(session.send_audio, INPUT_FORMAT)
            await session.send_text(QUESTION)
            await session.create_response()
            await _wait_until_running(player, answer, sound.running_s)
            start_ms = player.position_ms
            await player.play(sound.samples, paced=True)
            await player.play_silence(AFTER_S, paced=True)
        finally:
            receiver.cancel()
            await asyncio.gather(receiver, return_exceptions=True)
    found = (
        line
        for line in reversed(server.logs)
        if line["event"] == "interruption" and line["response_id"] == answer.response_id
    )
    return judge(answer, sound, player, start_ms, next(found, None))


async def _wait_until_running(player: Player, answer: Answer, running_s: float) -> None:
    """Play silence until the answer has been running for so long, or is over."""
    asked_at = time.monotonic()
    while answer.done_at is None:
        now = time.monotonic()
        if answer.first_text_at is not None and now >= answer.first_text_at + running_s:
            return
        if now > asked_at + _FIRST_TEXT_TIMEOUT_S:
            raise RuntimeError("the server does not answer a typed question")
        await player.play_silence(PIECE_S, paced=True)


def judge(
    answer: Answer,
    sound: Sound,
    player: Player,
    start_ms: float,
    logged: Mapping[str, Any] | None,
) -> Interruption:
    """What came of it.

    Args:
        answer: What was received.
        sound: What was played over it.
        player: What played it.
        start_ms: Where in what was played the sound began.
        logged: What the server says about the interruption.
    """
    reached = sound.samples.size if sound.interrupts_at is None else sound.interrupts_at
    reached_at = player.sent_at(start_ms + reached * 1000 / SAMPLE_RATE_HZ)
    over_at = player.sent_at(start_ms + sound.samples.size * 1000 / SAMPLE_RATE_HZ)
    assert reached_at is not None
    assert over_at is not None
    finished = answer.done_at is not None and not answer.cancelled and answer.done_at <= over_at
    last_text_ms = None
    if sound.interrupts_at is not None and answer.last_text_at is not None:
        last_text_ms = (answer.last_text_at - reached_at) * 1000
    return Interruption(
        kind=sound.kind,
        said=sound.said,
        running=not finished,
        last_text_ms=last_text_ms,
        cancelled=answer.cancelled,
        announced=answer.announced,
        stages_ms=stages_ms(answer, player, logged),
    )


def stages_ms(answer: Answer, player: Player, logged: Mapping[str, Any] | None) -> dict[str, float]:
    """Where the time of an interruption went, if a server on this machine has logged it.

    `way_in` is from the client's writing of the 200th ms of speech to the server's reading of it,
    `way_out` from the server's writing of the last text to the client's taking it. What lies
    between is the server's: `heard`, `withheld`, `last_text` from its reading, and `writing`.
    The server counts speech by itself, so its 200th ms may be some frames later than the truth's.
    """
    if logged is None or "last_text_ms" not in logged:
        return {}
    sent_at = player.sent_at(logged["position_ms"])
    assert sent_at is not None
    assert answer.last_text_at is not None
    arrived_at = logged["arrived_at_s"]
    names = ("heard", "withheld", "last_text", "writing")
    written_at = arrived_at + logged["last_text_ms"] / 1000
    return {
        "way_in": (arrived_at - sent_at) * 1000,
        **{name: logged[f"{name}_ms"] for name in names},
        "way_out": (answer.last_text_at - written_at) * 1000,
    }


async def _follow(session: ClientSession, answer: Answer) -> None:
    async for event in session:
        answer.take(event, time.monotonic())
