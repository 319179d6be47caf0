"""openai-python's own translation client, unmodified, playing recordings."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soxr
from openai import AsyncOpenAI

from agent.audio.pcm import encode_pcm16
from tests.helpers.patience import PATIENCE_S

PIECE_SAMPLES = 4_800  # 200 ms at 24 kHz, as the protocol recommends


@dataclass
class Translated:
    """What a client was sent.

    Attributes:
        source: The words that were said.
        text: Their translation.
        events: All events in order.
    """

    source: str = ""
    text: str = ""
    events: list[Any] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        """Of all events."""
        return [event.type for event in self.events]


async def translate(
    base_url: str, speech: np.ndarray, *, language: str, spoken: str | None = None
) -> Translated:
    """Say all of `speech` (float32[T], 16 kHz) as fast as the server takes it, and close."""
    client = AsyncOpenAI(api_key="any", websocket_base_url=base_url)
    transcription = {"model": "any"} | ({"language": spoken} if spoken else {})
    result = Translated()
    async with (
        asyncio.timeout(PATIENCE_S),
        client.realtime.translations.connect(model="gpt-realtime-translate") as connection,
    ):
        audio = {"input": {"transcription": transcription}, "output": {"language": language}}
        await connection.session.update(session={"audio": audio})
        saying = asyncio.create_task(say(connection, speech))
        async for event in connection:
            result.events.append(event)
            if event.type == "session.input_transcript.delta":
                result.source += event.delta
            elif event.type == "session.output_transcript.delta":
                result.text += event.delta
        await saying
    return result


async def say(connection: Any, speech: np.ndarray) -> None:
    """Send all of it (float32[T], 16 kHz), and close."""
    for piece in _pieces(speech):
        audio = base64.b64encode(piece).decode()
        await connection.send({"type": "session.input_audio_buffer.append", "audio": audio})
    await connection.send({"type": "session.close"})


def _pieces(speech: np.ndarray) -> list[bytes]:
    wire = soxr.resample(speech, 16_000, 24_000)
    return [
        encode_pcm16(wire[at : at + PIECE_SAMPLES]) for at in range(0, len(wire), PIECE_SAMPLES)
    ]


def in_a_row(clips: Iterable[np.ndarray], pause_s: float = 0.8) -> np.ndarray:
    """Clips (float32, 16 kHz) with silence after each."""
    silence = np.zeros(int(16_000 * pause_s), np.float32)
    return np.concatenate([part for clip in clips for part in (clip, silence)])
