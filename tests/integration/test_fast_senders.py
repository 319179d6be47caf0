"""Clients that send much faster than they are translated keep their connection; real sockets."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from agent.audio.pcm import encode_pcm16
from agent.config import ScorerName, Settings
from agent.gateway import inbox, server
from agent.gateway.asgi import create_app
from agent.gateway.driver import SessionDriver
from agent.gateway.services import Services
from agent.metrics import Metrics
from agent.vad.hub import VadHub
from agent.vad.scorers import make_scorer
from tests.helpers.patience import PATIENCE_S
from tests.helpers.scripted_engine import ScriptedEngine

# A loop that stands still for so long would miss a ping of its own.
PINGS_S = 0.5
PIECE_BYTES = 9_600  # 200 ms
# 7 MB: more than is read before the server stops, and than sockets hold by default on Linux.
SECONDS = 150


@asynccontextmanager
async def translating(gate: Path, **limits: Any) -> AsyncIterator[ClientConnection]:
    """A client of a server that translates nothing while there is no file `gate`."""
    settings = Settings(port=0, limits={"max_audio_backlog_s": 2.0, **limits})
    engine, hub = ScriptedEngine({"gate": str(gate)}), VadHub(make_scorer(ScorerName.WEBRTC))
    app = create_app(Services(settings, engine, hub, Metrics()), SessionDriver, key=None)
    listener = server.bind(settings.host, settings.port)
    url = f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/realtime/translations?model=any"
    ready = asyncio.Event()
    serving = asyncio.create_task(server.serve(app, listener, lambda _: ready.set()))
    try:
        await asyncio.wait_for(ready.wait(), PATIENCE_S)
        async with connect(url, ping_interval=None) as client:
            assert json.loads(await client.recv())["type"] == "session.created"
            yield client
    finally:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(serving, PATIENCE_S)
        await hub.close()


def talk() -> list[bytes]:
    """A buzz of two seconds and a pause, again and again."""
    time_s = np.arange(2 * 24_000) / 24_000
    buzz = sum(np.sin(2 * np.pi * 150 * n * time_s) / n for n in range(1, 20))
    phrase = encode_pcm16((0.2 * buzz).astype(np.float32)) + bytes(48_000)
    wire = phrase * (SECONDS // 3)
    return [wire[at : at + PIECE_BYTES] for at in range(0, len(wire), PIECE_BYTES)]


async def send(client: ClientConnection) -> None:
    for piece in talk():
        await client.send(piece)
    await client.send(json.dumps({"type": "session.close"}))


async def phrases_until_closed(client: ClientConnection) -> int:
    """How many were translated before the session ended as it should."""
    words = 0
    async with asyncio.timeout(PATIENCE_S):
        while (event := json.loads(await client.recv()))["type"] != "session.closed":
            assert event["type"] == "session.output_transcript.delta", event
            words += len(event["delta"].split(" in en")) - 1
        await client.wait_closed()
    assert client.close_code == 1000
    return words


async def test_pings_behind_a_flood_of_audio_are_answered_while_nothing_is_translated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "SLOW_BYTES_PER_S", 20_000_000)
    async with translating(tmp_path / "gate") as client:
        sending = asyncio.create_task(send(client))
        async with asyncio.timeout(PATIENCE_S):
            await sending
            await (await client.ping())
        (tmp_path / "gate").touch()
        assert await phrases_until_closed(client) == SECONDS // 3


async def test_no_ping_counts_while_the_server_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PING_INTERVAL_S", PINGS_S)
    monkeypatch.setattr(server, "PING_TIMEOUT_S", PINGS_S)
    async with translating(tmp_path / "gate", max_waiting_bytes=1_000_000) as client:
        sending = asyncio.create_task(send(client))
        await asyncio.sleep(4 * PINGS_S)
        (tmp_path / "gate").touch()
        assert await phrases_until_closed(client) == SECONDS // 3
        await sending
