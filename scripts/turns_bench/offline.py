"""The same dialogues without a server: hub and session in this process, on a simulated clock.

Much faster than real time. A frame arrives when the 40 ms piece that completes it would have
been sent; work takes no time, but for judging a pause, which takes `SOUND_JUDGED_AFTER_S` and
`WORDS_JUDGED_AFTER_S`. So positions are those of the server, and delays are the server's
without what scoring, queues and the network cost.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.intake import AudioIntake
from agent.audio.pcm import SAMPLE_RATE_HZ, Samples, encode_pcm16
from agent.client.player import PIECE_S
from agent.config import Limits, Settings, VadSettings
from agent.protocol.config import SessionConfig
from agent.session import commands, outputs, tokens
from agent.session.session import Session, SessionOptions
from agent.vad.hub import VadHub
from agent.vad.scorers import Probabilities, make_scorer
from scripts.turns_bench.judging import Judge
from scripts.turns_bench.observed import Observation
from scripts.turns_bench.settings import INPUT_FORMAT

# What Smart Turn and the embedded engine's recogniser take on one core (docs/turn-taking.md,
# docs/engine.md).
SOUND_JUDGED_AFTER_S = 0.07
WORDS_JUDGED_AFTER_S = 0.4
_PIECE_SAMPLES = round(PIECE_S * SAMPLE_RATE_HZ)


async def score_all(sounds: Sequence[Samples], vad: VadSettings) -> list[Probabilities]:
    """How likely each frame of each sound is speech, as the server scores it."""
    hub = VadHub(make_scorer(vad.scorer), tick_ms=0)
    try:
        scored = await asyncio.gather(
            *(
                hub.score(hub.open_stream(), AudioIntake(INPUT_FORMAT), encode_pcm16(sound))
                for sound in sounds
            )
        )
    finally:
        await hub.close()
    return [probabilities for _, probabilities in scored]


def observe(
    samples: Samples,
    probabilities: Probabilities,
    turn_detection: Mapping[str, Any],
    settings: Settings,
    judge: Judge,
) -> Observation:
    """What a session says about a sound that has been scored.

    Args:
        samples: float32[T], mono, 16 kHz.
        probabilities: Of its frames, from `score_all`.
        turn_detection: The protocol's setting.
        settings: The server's.
        judge: Judges pauses for `semantic_vad`.
    """
    return _Run(turn_detection, settings, judge).hear(samples, probabilities)


class _Run:
    """One session, and what stands in for hub and engine."""

    def __init__(self, turn_detection: Mapping[str, Any], settings: Settings, judge: Judge) -> None:
        self._judge = judge
        self._session = _listening_session(turn_detection, settings, hears_words=judge.hears_words)
        self._seen = Observation(sent_at=arrives_at)
        self._open_clip = np.zeros(0, np.float32)
        # Judgements that are being made: when each is done, and how it is delivered.
        self._judged: list[tuple[float, Callable[[float], None]]] = []

    def hear(self, samples: Samples, probabilities: Probabilities) -> Observation:
        self._session.start(0.0)
        for number, probability in enumerate(probabilities):
            frame = samples[number * FRAME_SAMPLES : (number + 1) * FRAME_SAMPLES]
            now = arrives_at((number + 1) * FRAME_SAMPLES)
            self._deliver_until(now)
            self._session.receive_audio(frame, np.array([probability], np.float32), now)
            self._take_output(now)
        return self._seen

    def _deliver_until(self, now: float) -> None:
        self._judged.sort(key=itemgetter(0))
        while self._judged and self._judged[0][0] <= now:
            done_at, deliver = self._judged.pop(0)
            deliver(done_at)
            self._take_output(done_at)

    def _take_output(self, now: float) -> None:
        for output in self._session.take_output():
            match output:
                case outputs.Send(event=event):
                    self._seen.take(event, now)
                case commands.Hear(samples=samples):
                    self._open_clip = np.concatenate((self._open_clip, samples))
                case commands.Cut(keep_samples=keep_samples):
                    self._open_clip = self._open_clip[keep_samples:]
                case commands.Forget() | commands.Commit():
                    self._open_clip = self._open_clip[:0]
                case outputs.ScoreTurn(number=number, samples=samples):
                    self._judge_sound(number, samples, now)
                case commands.StartBranch(
                    purpose=commands.BranchPurpose.JUDGEMENT, branch_id=branch_id
                ):
                    self._judge_words(branch_id, now)

    def _judge_sound(self, number: int, samples: Samples, now: float) -> None:
        finished = self._judge.sound(samples)
        if finished is not None:

            def deliver(at: float) -> None:
                self._session.receive_turn_score(number, finished, at)

            self._judged.append((now + SOUND_JUDGED_AFTER_S, deliver))

    def _judge_words(self, branch_id: str, now: float) -> None:
        words = self._judge.words(self._open_clip)

        def deliver(at: float) -> None:
            self._session.receive_tokens(tokens.BranchText(branch_id, words), at)
            ended = tokens.BranchEnded(branch_id, complete=True, usage=tokens.TokenUsage())
            self._session.receive_tokens(ended, at)

        self._judged.append((now + WORDS_JUDGED_AFTER_S, deliver))


def _listening_session(
    turn_detection: Mapping[str, Any], settings: Settings, *, hears_words: bool
) -> Session:
    """A session that answers nothing and never expires: its time is simulated."""
    ids = itertools.count()
    config = {"audio": {"input": {"turn_detection": {**turn_detection, "create_response": False}}}}
    options = SessionOptions(
        session_id="sess_offline",
        model="none",
        language=None,
        vad=settings.vad,
        turns=settings.turns,
        limits=Limits(max_session_s=1e9, idle_timeout_s=1e9, max_items=10**6),
        expires_at=0,
        extensions=frozenset({"timings"}),
        hears_words=hears_words,
    )
    return Session(SessionConfig().updated(config), options, lambda prefix: f"{prefix}_{next(ids)}")


def arrives_at(position: int) -> float:
    """When the sample before a position arrives, in seconds."""
    return -(-position // _PIECE_SAMPLES) * PIECE_S
