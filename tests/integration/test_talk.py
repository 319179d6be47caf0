"""`voice-agent talk` with a stand-in microphone and a scripted server on a real socket."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator

import pytest
from rich.console import Console

from agent.commands.server_address import ServerAddress
from agent.commands.talk import TalkOptions, talk
from agent.errors import ConnectionFailed
from tests.helpers.fake_sounddevice import BUILT_IN, SoundDevice
from tests.helpers.patience import PATIENCE_S
from tests.helpers.scripted_server import ScriptedServer, scripted_server, spoken_turn

TURN = spoken_turn(
    "item_1", start_ms=0, end_ms=900, transcript="Hello.", deltas=["Hi."], speech_end_ms=400
)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as running:
        yield running


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> SoundDevice:
    module = SoundDevice(BUILT_IN)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


async def test_a_conversation_until_it_is_interrupted(
    server: ScriptedServer, sounddevice: SoundDevice
) -> None:
    server.after_audio(400, *TURN)
    screen = io.StringIO()
    options = TalkOptions(language="en", instructions="Be brief.", captions=True)
    talking = asyncio.create_task(
        talk(ServerAddress(server.url, None), options, Console(file=screen, width=80))
    )
    await server.until_received("session.update")
    async with asyncio.timeout(PATIENCE_S):
        while "latency" not in screen.getvalue():
            await sounddevice.streams[0].record(0.1)
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking

    assert not sounddevice.streams[0].open
    assert "captions" in server.paths[0]
    assert server.received[0]["session"]["instructions"] == "Be brief."
    assert server.received[0]["session"]["audio"]["input"]["transcription"] == {"language": "en"}
    shown = " ".join(screen.getvalue().split())
    assert "Microphone: Built-in" in shown
    assert "heard Hello. answer Hi. latency first token 730 ms" in shown


async def test_a_server_that_goes_away_ends_it(
    server: ScriptedServer, sounddevice: SoundDevice
) -> None:
    talking = asyncio.create_task(
        talk(ServerAddress(server.url, None), TalkOptions(), Console(file=io.StringIO()))
    )
    await server.until_received("session.update")
    assert "captions" not in server.paths[0]
    await server.connections[0].close(1001)
    with pytest.raises(ConnectionFailed, match="shutting down"):
        await talking
    assert not sounddevice.streams[0].open
