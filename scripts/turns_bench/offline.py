"""The same dialogues without a server: hub and session in this process, on a simulated clock.

Much faster than real time. A frame arrives when the 40 ms piece that completes it would have
been sent; work takes no time, but for judging a pause, which takes `JUDGED_AFTER_S`. So
positions are those of the server, and delays are the server's without what scoring, queues and
the network cost.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.intake import AudioIntake
from agent.audio.pcm import SAMPLE_RATE_HZ, Samples, encode_pcm16
from agent.client.player import PIECE_S
from agent.config import Limits, Settings, VadSettings
from agent.protocol.config import SessionConfig
from agent.session.items import ScoreTurn, Send
from agent.session.session import Session, SessionOptions
from agent.turns.scorers import SmartTurnScorer, TurnScorer, can_run, smart_turn_path
from agent.vad.hub import VadHub
from agent.vad.scorers import Probabilities, make_scorer
from scripts.turns_bench.observed import Observation
from scripts.turns_bench.settings import INPUT_FORMAT

# What Smart Turn takes on one core (docs/turn-taking.md).
JUDGED_AFTER_S = 0.06
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


def make_judge(settings: Settings) -> TurnScorer | None:
    """What judges pauses, as the server has it; None for fixed waits.

    Raises:
        ModelStoreError: Its model is not here.
    """
    return SmartTurnScorer(smart_turn_path()) if can_run(settings.turns.scorer) else None


def observe(
    samples: Samples,
    probabilities: Probabilities,
    turn_detection: Mapping[str, Any],
    settings: Settings,
    judge: TurnScorer | None = None,
) -> Observation:
    """What a session says about a sound that has been scored.

    Args:
        samples: float32[T], mono, 16 kHz.
        probabilities: Of its frames, from `score_all`.
        turn_detection: The protocol's setting.
        settings: The server's.
        judge: Judges pauses for `semantic_vad`.
    """
    session = _listening_session(turn_detection, settings)
    session.start(0.0)
    seen = Observation(sent_at=arrives_at)
    # Pauses that are being judged: when that is done, its number, the probability.
    judged: deque[tuple[float, int, float]] = deque()

    def take_output(now: float) -> None:
        for output in session.take_output():
            if isinstance(output, Send):
                seen.take(output.event, now)
            elif isinstance(output, ScoreTurn) and judge is not None:
                probability = judge.score(output.samples)
                judged.append((now + JUDGED_AFTER_S, output.number, probability))

    for number, probability in enumerate(probabilities):
        frame = samples[number * FRAME_SAMPLES : (number + 1) * FRAME_SAMPLES]
        now = arrives_at((number + 1) * FRAME_SAMPLES)
        while judged and judged[0][0] <= now:
            done_at, pause, finished = judged.popleft()
            session.receive_turn_score(pause, finished, done_at)
            take_output(done_at)
        session.receive_audio(frame, np.array([probability], np.float32), now)
        take_output(now)
    return seen


def _listening_session(turn_detection: Mapping[str, Any], settings: Settings) -> Session:
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
    )
    return Session(SessionConfig().updated(config), options, lambda prefix: f"{prefix}_{next(ids)}")


def arrives_at(position: int) -> float:
    """When the sample before a position arrives, in seconds."""
    return -(-position // _PIECE_SAMPLES) * PIECE_S
