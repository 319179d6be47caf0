"""Speaks a recording to the server through OpenAI's own Python package, and prints the answer.

    pip install 'openai[realtime]'
    python openai_sdk.py --url http://127.0.0.1:8080/v1 question.wav

WAV files: 16-bit PCM, mono, 24 kHz.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import wave
from pathlib import Path

from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

PIECE_S = 0.04
SILENCE_S = 1.5


async def speak(connection: AsyncRealtimeConnection, path: Path) -> None:
    """Send a recording as a microphone would: in real time, and silence after it."""
    with wave.open(str(path)) as file:
        sound = file.readframes(file.getnframes()) + bytes(int(SILENCE_S * 24_000) * 2)
    loop = asyncio.get_running_loop()
    began, piece = loop.time(), int(PIECE_S * 24_000) * 2
    for number, at in enumerate(range(0, len(sound), piece), start=1):
        await asyncio.sleep(max(0.0, began + number * PIECE_S - loop.time()))
        audio = base64.b64encode(sound[at : at + piece]).decode()
        await connection.input_audio_buffer.append(audio=audio)


async def next_turn(connection: AsyncRealtimeConnection) -> tuple[str, str]:
    """What was heard, and the answer."""
    heard = answer = None
    async for event in connection:
        match event.type:
            case "conversation.item.input_audio_transcription.completed":
                heard = event.transcript.strip()
            case "response.output_text.done":
                answer = event.text.strip()
            case "error":
                raise SystemExit(event.error.message)
        # Either may come first: answers are begun before the turn is over.
        if heard is not None and answer is not None:
            return heard, answer
    raise SystemExit("the server closed the connection")


async def main() -> None:
    """Speak every recording in one conversation."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--url", default="http://127.0.0.1:8080/v1")
    options.add_argument("recordings", type=Path, nargs="+", metavar="FILE")
    given = options.parse_args()
    # Without a key on the server any will do.
    key = os.environ.get("VOICE_AGENT_API_KEY", "none")
    client = AsyncOpenAI(base_url=given.url, api_key=key)
    async with client.realtime.connect(model="any") as connection:
        await connection.session.update(
            session={
                "type": "realtime",
                "output_modalities": ["text"],
                "instructions": "Answer in one short sentence.",
                "audio": {
                    "input": {
                        "transcription": {"model": "any"},
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 1000},
                    }
                },
            }
        )
        for path in given.recordings:
            speaking = asyncio.create_task(speak(connection, path))
            heard, answer = await next_turn(connection)
            print(f"heard: {heard}\nanswer: {answer}", flush=True)
            await speaking


if __name__ == "__main__":
    asyncio.run(main())
