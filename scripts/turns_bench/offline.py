"""The same dialogues without a server: hub and session in this process, on a simulated clock.

Much faster than real time. A frame arrives when the 40 ms piece that completes it would have
been sent; work takes no time. So positions are those of the server, and delays are the
server's without what scoring, queues and the network cost.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.intake import AudioIntake
from agent.audio.pcm import SAMPLE_RATE_HZ, Samples, encode_pcm16
from agent.client.player import PIECE_S
from agent.config import Limits, VadSettings
from agent.protocol.config import SessionConfig
from agent.session.items import Send
from agent.session.session import Session, SessionOptions
from agent.vad.hub import VadHub
from agent.vad.scorers import Probabilities, make_scorer
from scripts.turns_bench.observed import Observation
from scripts.turns_bench.settings import INPUT_FORMAT

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
    vad: VadSettings,
) -> Observation:
    """What a session says about a sound that has been scored."""
    ids = itertools.count()
    config = {"audio": {"input": {"turn_detection": {**turn_detection, "create_response": False}}}}
    session = Session(
        SessionConfig().updated(config),
        SessionOptions(
            session_id="sess_offline",
            model="none",
            language=None,
            vad=vad,
            # Time is simulated: nothing may expire.
            limits=Limits(max_session_s=1e9, idle_timeout_s=1e9, max_items=10**6),
            expires_at=0,
            extensions=frozenset({"timings"}),
        ),
        lambda prefix: f"{prefix}_{next(ids)}",
    )
    session.start(0.0)
    seen = Observation(sent_at=arrives_at)
    for number, probability in enumerate(probabilities):
        frame = samples[number * FRAME_SAMPLES : (number + 1) * FRAME_SAMPLES]
        now = arrives_at((number + 1) * FRAME_SAMPLES)
        session.receive_audio(frame, np.array([probability], np.float32), now)
        for output in session.take_output():
            if isinstance(output, Send):
                seen.take(output.event, now)
    return seen


def arrives_at(position: int) -> float:
    """When the sample before a position arrives, in seconds."""
    return -(-position // _PIECE_SAMPLES) * PIECE_S
