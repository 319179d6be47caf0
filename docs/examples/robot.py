"""A robot: it hears people, says the answers with a voice of its own, and stops when interrupted.

    pip install '.[mic]'          # in a checkout of this project
    python robot.py --url http://127.0.0.1:8080
    python robot.py --recording question.wav --recording interruption.wav

With recordings instead of a microphone, each one after the first is spoken as soon as the robot
talks. The voice only prints here: put your text-to-speech into `Voice`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from agent.client import ClientSession, connect
from agent.client.microphone import open_microphone
from agent.client.recording import read_recording
from agent.errors import VoiceAgentError

RATE_HZ = 24_000
PIECE_S = 0.04
CHARACTERS_A_SECOND = 15  # of ordinary speech


class Voice:
    """Says text as it comes, and knows how far it has got.

    Attributes:
        item_id: The answer that is being said.
        said: How many of its characters were.
        talking: Set while there is something to say.
    """

    def __init__(self) -> None:
        self.item_id = ""
        self.text = ""
        self.said = 0
        self.talking = asyncio.Event()
        self._may_speak = asyncio.Event()
        self._may_speak.set()

    def say(self, item_id: str, text: str) -> None:
        """Say more of an answer; a new answer takes the place of the old one."""
        if item_id != self.item_id:
            self.item_id, self.text, self.said = item_id, "", 0
        self.text += text
        self.talking.set()

    def pause(self) -> None:
        """Fall silent for a moment."""
        self._may_speak.clear()

    def resume(self) -> None:
        """Go on."""
        self._may_speak.set()

    def stop(self) -> int:
        """Say no more of this answer; gives how many of its characters were said."""
        self.text = self.text[: self.said]
        self.resume()
        self.talking.clear()
        return self.said

    async def run(self) -> None:
        """Speak, for ever."""
        while True:
            await self._may_speak.wait()
            await self.talking.wait()
            if self.said < len(self.text):
                print(self.text[self.said], end="", flush=True)
                self.said += 1
                await asyncio.sleep(1 / CHARACTERS_A_SECOND)
            else:
                print(flush=True)
                self.talking.clear()


class Manners:
    """When to talk, when to be silent, and what to tell the server of it."""

    def __init__(self, session: ClientSession, voice: Voice) -> None:
        self.session = session
        self.voice = voice
        self.answering = False  # the server is writing an answer
        self.listening = False  # somebody is speaking

    async def react(self, event: dict) -> None:
        """Follow one event of the server."""
        match event["type"]:
            case "input_audio_buffer.speech_started":
                self.listening = True
                self.voice.pause()
                # While the server is writing it decides: a "mhm" interrupts nothing.
                if not self.answering:
                    await self.stop_talking()
            case "input_audio_buffer.speech_stopped":
                self.listening = False
            case "conversation.item.input_audio_transcription.completed":
                print(f"[heard: {event['transcript'].strip()}]", flush=True)
            case "response.created":
                self.answering = True
            case "response.output_text.delta":
                self.voice.say(event["item_id"], event["delta"])
                if not self.listening:
                    self.voice.resume()
            case "response.done":
                self.answering = False
                if self.listening or event["response"]["status"] == "cancelled":
                    await self.stop_talking()
                else:
                    self.voice.resume()
            case "conversation.item.truncated":
                print(f"[the server keeps what was said of {event['item_id']}]", flush=True)
            case "error":
                print(f"[{event['error']['message']}]", flush=True)

    async def stop_talking(self) -> None:
        """Say no more, and tell the server how far the voice had got."""
        if not self.voice.talking.is_set():
            self.voice.resume()
            return
        item_id, whole = self.voice.item_id, len(self.voice.text)
        said = self.voice.stop()
        print(f"\n[interrupted after {said} of {whole} characters]", flush=True)
        await self.session.truncate(item_id, said)


async def recorded(paths: list[Path], voice: Voice) -> AsyncIterator[np.ndarray]:
    """Recordings in place of a microphone: float32, 24 kHz, in real time, silence between them."""
    loop = asyncio.get_running_loop()
    piece = round(PIECE_S * RATE_HZ)
    sounds = [read_recording(path).at_rate(RATE_HZ) for path in paths]
    began, pieces, at = loop.time(), 0, 0
    while True:
        sound = sounds[0][at : at + piece] if sounds else np.zeros(0, np.float32)
        at += piece
        if sounds and at >= len(sounds[0]) and (len(sounds) == 1 or voice.talking.is_set()):
            sounds, at = sounds[1:], 0
        pieces += 1
        await asyncio.sleep(max(0.0, began + pieces * PIECE_S - loop.time()))
        yield np.pad(sound, (0, piece - len(sound)))


async def listen(session: ClientSession, voice: Voice, recordings: list[Path]) -> None:
    """Send what is heard."""
    if recordings:
        async for block in recorded(recordings, voice):
            await session.send_audio(block, rate_hz=RATE_HZ)
        return
    with open_microphone() as microphone:
        async for block in microphone:
            await session.send_audio(block, rate_hz=microphone.rate_hz)


async def main() -> None:
    """Talk until Ctrl-C."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--url", default="http://127.0.0.1:8080")
    options.add_argument("--recording", type=Path, action="append", default=[])
    given = options.parse_args()
    settings = {
        "instructions": "You are Ada, a robot in a museum. Tell visitors long stories.",
        "audio": {"input": {"transcription": {}}},
    }
    key = os.environ.get("VOICE_AGENT_API_KEY")
    async with connect(given.url, api_key=key, session=settings) as session:
        voice = Voice()
        manners = Manners(session, voice)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(voice.run())
            tasks.create_task(listen(session, voice, given.recording))
            async for event in session:
                await manners.react(event)


if __name__ == "__main__":
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(main())
    except* VoiceAgentError as failed:  # no server, no microphone: its message says what to do
        sys.exit(f"robot.py: {failed.exceptions[0]}")
