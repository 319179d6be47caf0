"""Plays dialogues and noise into a running server and notes what it says about turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agent.audio.pcm import SAMPLE_RATE_HZ, Samples
from agent.client import ClientSession, connect
from agent.client.player import Player
from scripts.turns_bench.observed import Observation
from scripts.turns_bench.settings import INPUT_FORMAT

# After the last sample everything that is due has been said within this, or is a failure.
_SETTLE_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class ServerAddress:
    """Where the server is.

    Attributes:
        url: Its address.
        api_key: If it wants one.
        logs: What it logs, if it was started here; it goes on growing.
    """

    url: str
    api_key: str | None = None
    logs: Sequence[Mapping[str, Any]] = ()


@asynccontextmanager
async def listening_session(
    server: ServerAddress, turn_detection: Mapping[str, Any]
) -> AsyncIterator[ClientSession]:
    """A session that answers nothing."""
    settings = {
        "audio": {"input": {"turn_detection": {**turn_detection, "create_response": False}}}
    }
    async with connect(
        server.url,
        api_key=server.api_key,
        session=settings,
        input_format=INPUT_FORMAT,
        extensions=("timings",),
        open_timeout_s=30,
    ) as session:
        yield session


async def play_pieces(
    server: ServerAddress,
    blocks: Iterable[Samples],
    turn_detection: Mapping[str, Any],
    *,
    fast: bool,
) -> Observation:
    """Play sound into a session of its own.

    Args:
        server: Where to.
        blocks: float32[T] each, mono, 16 kHz, one after the other.
        turn_detection: The protocol's setting.
        fast: As fast as the server takes it; otherwise in real time.

    Returns:
        All turns; `sent_at` is there in real time alone.
    """
    seen = Observation()
    async with listening_session(server, turn_detection) as session:
        player = Player(session.send_audio, INPUT_FORMAT)
        receiver = asyncio.create_task(_follow(session, seen))
        try:
            for block in blocks:
                await player.play(block, paced=not fast)
            # Answered once everything before it has been worked on.
            await session.send({"type": "input_audio_buffer.clear"})
            await asyncio.wait_for(receiver, _SETTLE_TIMEOUT_S)
        finally:
            receiver.cancel()
            await asyncio.gather(receiver, return_exceptions=True)
    if not fast:

        def sent_at(position: int) -> float:
            at = player.sent_at(position * 1000 / SAMPLE_RATE_HZ)
            assert at is not None
            return at

        seen.sent_at = sent_at
    return seen


async def _follow(session: ClientSession, seen: Observation) -> None:
    """Note events until the buffer was cleared."""
    async for event in session:
        if event["type"] == "input_audio_buffer.cleared":
            return
        if event["type"] == "error":
            raise RuntimeError(f"the server reports an error: {event['error']['message']}")
        seen.take(event, time.monotonic())
