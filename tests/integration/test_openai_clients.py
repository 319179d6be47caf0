"""Real clients, unmodified, hold a spoken two-turn conversation with the real server."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable

import numpy as np
import pytest
from agents.realtime import RealtimeAgent, RealtimeRunner
from openai import AsyncOpenAI

from tests.helpers.patience import PATIENCE_S
from tests.helpers.server import RunningServer
from tests.helpers.speech import PIECE_S, recording, spoken_pieces
from tests.helpers.wer import word_errors

pytestmark = [pytest.mark.models, pytest.mark.slow]

# The reader pauses within sentences; each recording is to be one turn here.
SILENCE_MS = 1000


async def paced(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The pieces in real time, against one clock."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number, piece in enumerate(pieces):
        await asyncio.sleep(max(0.0, start + number * PIECE_S - loop.time()))
        yield piece


async def test_openai_python_holds_two_spoken_turns(small_server: RunningServer):
    first, second = recording(at_least_s=2.5, at_most_s=4), recording(at_least_s=4, at_most_s=8)
    client = AsyncOpenAI(api_key="any", websocket_base_url=small_server.base_url)
    async with client.realtime.connect(model="gpt-realtime") as connection:
        await connection.session.update(
            session={
                "type": "realtime",
                "output_modalities": ["text"],
                "audio": {
                    "input": {
                        "transcription": {"model": "gpt-4o-mini-transcribe"},
                        "turn_detection": {
                            "type": "server_vad",
                            "silence_duration_ms": SILENCE_MS,
                        },
                    }
                },
            }
        )
        inputs = []
        for clip in (first, second):
            speaking = asyncio.create_task(_append(connection, clip.samples()))
            transcript, answer, usage = await asyncio.wait_for(_one_turn(connection), PATIENCE_S)
            await speaking
            assert word_errors(clip.text, transcript).rate <= 0.35
            assert answer.strip()
            inputs.append(usage.input_tokens)
        # The second prompt holds the first turn and its answer.
        assert inputs[1] > inputs[0]


async def _append(connection, samples: np.ndarray) -> None:
    async for piece in paced(spoken_pieces(samples)):
        await connection.input_audio_buffer.append(audio=base64.b64encode(piece).decode())


async def _one_turn(connection):
    """The transcript, the answer and its usage of the next turn.

    The transcript and the answer come in any order (as on the official server): an answer that
    was begun at the pause may be complete when the turn ends.
    """
    transcript, text, usage = None, "", None
    async for event in connection:
        assert event.type != "error", event
        if event.type == "conversation.item.input_audio_transcription.completed":
            transcript = event.transcript
        elif event.type == "response.output_text.delta":
            text += event.delta
        elif event.type == "response.done":
            assert event.response.status == "completed"
            usage = event.response.usage
        if transcript is not None and usage is not None:
            return transcript, text, usage
    raise AssertionError("the connection ended")


async def test_openai_python_opens_a_session_with_a_client_secret(small_server: RunningServer):
    address = f"{small_server.url}/v1"
    session = {"type": "realtime", "instructions": "You sell tickets."}
    async with AsyncOpenAI(api_key="any", base_url=address) as holder:
        secret = await holder.realtime.client_secrets.create(session=session)
    async with (
        AsyncOpenAI(api_key=secret.value, base_url=address) as visitor,
        visitor.realtime.connect(model="gpt-realtime") as connection,
    ):
        created = await connection.recv()
    assert created.session.instructions == "You sell tickets."


async def test_openai_agents_holds_two_spoken_turns(small_server: RunningServer):
    clips = [recording(at_least_s=2.5, at_most_s=4), recording(at_least_s=4, at_most_s=8)]
    agent = RealtimeAgent(name="Guide", instructions="Answer in one short sentence.")
    runner = RealtimeRunner(agent)
    model_config = {
        "api_key": "any",
        "url": f"{small_server.ws_url}?model=gpt-realtime",
        "initial_model_settings": {
            "output_modalities": ["text"],
            "audio": {
                "input": {
                    "format": "pcm16",
                    "transcription": {"model": "gpt-4o-mini-transcribe"},
                    "turn_detection": {
                        "type": "server_vad",
                        "silence_duration_ms": SILENCE_MS,
                        "interrupt_response": True,
                    },
                }
            },
        },
    }
    session = await runner.run(model_config=model_config)
    async with session:
        errors = []
        for turn, clip in enumerate(clips, start=1):
            speaking = asyncio.create_task(_speak(session, clip.samples()))
            history = await asyncio.wait_for(_until_answered(session, turn, errors), PATIENCE_S)
            await speaking
            assert errors == []
            users = [item for item in history if item.role == "user"]
            answers = [item for item in history if item.role == "assistant"]
            assert len(users) == len(answers) == turn
            heard = users[-1].content[0].transcript
            assert word_errors(clip.text, heard).rate <= 0.35
            assert answers[-1].content[0].text.strip()


async def _speak(session, samples: np.ndarray) -> None:
    async for piece in paced(spoken_pieces(samples)):
        await session.send_audio(piece)


async def _until_answered(session, turns: int, errors: list):
    """The SDK's own history once it holds that many transcribed and answered turns."""
    history: list = []
    async for event in session:
        if event.type == "error":
            errors.append(event.error)
            return history
        if event.type == "history_updated":
            history = [item for item in event.history if item.type == "message"]
        answered = [
            item
            for item in history
            if item.role == "assistant" and item.status == "completed" and item.content
        ]
        heard = [
            item
            for item in history
            if item.role == "user" and item.content and item.content[0].transcript
        ]
        if len(answered) >= turns and len(heard) >= turns:
            return history
    raise AssertionError("the session ended")
