"""Transcription sessions and live captions over real sockets, with the openai SDK unmodified."""

from __future__ import annotations

import asyncio
import base64

import pytest
from openai import AsyncOpenAI

from agent.client import connect
from tests.helpers.patience import PATIENCE_S
from tests.helpers.server import RunningServer
from tests.helpers.speech import PIECE_S, recording, spoken_pieces
from tests.helpers.wer import word_errors

pytestmark = [pytest.mark.models, pytest.mark.slow]

TRANSCRIPTION = "conversation.item.input_audio_transcription."


async def speak(connection, samples) -> None:
    """In real time, against one clock."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number, piece in enumerate(spoken_pieces(samples)):
        await asyncio.sleep(max(0.0, start + number * PIECE_S - loop.time()))
        await connection.input_audio_buffer.append(audio=base64.b64encode(piece).decode())


async def test_openai_python_transcribes_speech_while_it_is_spoken(small_server: RunningServer):
    clip = recording(at_least_s=4, at_most_s=8)
    client = AsyncOpenAI(api_key="any", websocket_base_url=small_server.base_url)
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        created = await connection.recv()
        assert created.session.type == "transcription"
        await connection.session.update(
            session={
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24000},
                        "noise_reduction": {"type": "near_field"},
                        "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 1000},
                    }
                },
            }
        )
        speaking = asyncio.create_task(speak(connection, clip.samples()))
        events = await asyncio.wait_for(_until_completed(connection), PATIENCE_S)
        await speaking
        await connection.response.create()
        refused = await asyncio.wait_for(connection.recv(), PATIENCE_S)
    assert (refused.type, refused.error.code) == ("error", "not_in_transcription_sessions")
    kinds = [event.type for event in events]
    # Words came before the turn was over, however slow this machine is: the first pause is
    # captioned at once, and passes wait for nobody here.
    committed = kinds.index("input_audio_buffer.committed")
    assert kinds.index(f"{TRANSCRIPTION}delta") < kinds.index(f"{TRANSCRIPTION}completed")
    assert kinds[committed + 1 : committed + 3] == [
        "conversation.item.added",
        "conversation.item.done",
    ]
    completed = events[-1]
    assert word_errors(clip.text, completed.transcript).rate <= 0.35
    shown = "".join(e.delta for e in events if e.type == f"{TRANSCRIPTION}delta")
    assert word_errors(clip.text, shown).rate <= 0.35
    items = {getattr(event, "item_id", completed.item_id) for event in events}
    assert items == {completed.item_id}


async def _until_completed(connection) -> list:
    events = []
    async for event in connection:
        assert event.type != "error", event
        assert not event.type.startswith("response."), event
        if event.type != "session.updated":
            events.append(event)
        if event.type == f"{TRANSCRIPTION}completed":
            return events
    raise AssertionError("the connection ended")


async def test_our_client_opens_a_transcription_session_by_its_settings(
    small_server: RunningServer,
):
    clip = recording(at_least_s=2, at_most_s=4)
    settings = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
    async with connect(small_server.url, session=settings) as session:
        assert session.settings["object"] == "realtime.transcription_session"
        await session.update_session(audio={"input": {"transcription": {"language": "English"}}})
        await session.send_audio(clip.samples(), rate_hz=16_000)
        await session.send({"type": "input_audio_buffer.commit"})
        async with asyncio.timeout(PATIENCE_S):
            async for event in session:
                assert event["type"] != "error", event
                if event["type"] == f"{TRANSCRIPTION}completed":
                    break
    assert session.settings["audio"]["input"]["transcription"]["language"] == "en"
    assert word_errors(clip.text, event["transcript"]).rate <= 0.35
