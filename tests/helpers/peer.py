"""A WebRTC client: a microphone that plays what a test says, and the events it gets.

async with peer(server.url) as client:
    client.microphone.say(samples)
    await client.event("response.done")
"""

from __future__ import annotations

import asyncio
import fractions
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import numpy as np
import soxr
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack
from av import AudioFrame

RATE_HZ = 48_000
FRAME_SAMPLES = 960

Event = dict[str, Any]


class Microphone(MediaStreamTrack):
    """Plays what it is given in real time, and silence between."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._waiting = np.zeros(0, np.int16)
        self._position = 0
        self._began_s: float | None = None

    def say(self, samples: np.ndarray) -> None:
        """Add float32[T] at 16 kHz."""
        wide = soxr.resample(samples, 16_000, RATE_HZ)
        self._waiting = np.concatenate([self._waiting, (wide * 32_767).astype(np.int16)])

    async def recv(self) -> AudioFrame:
        """The next 20 ms."""
        loop = asyncio.get_running_loop()
        if self._began_s is None:
            self._began_s = loop.time()
        await asyncio.sleep(self._began_s + self._position / RATE_HZ - loop.time())
        piece, self._waiting = self._waiting[:FRAME_SAMPLES], self._waiting[FRAME_SAMPLES:]
        piece = np.pad(piece, (0, FRAME_SAMPLES - len(piece)))
        frame = AudioFrame.from_ndarray(piece[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, self._position
        frame.time_base = fractions.Fraction(1, RATE_HZ)
        self._position += FRAME_SAMPLES
        return frame


class Peer:
    """One call.

    Attributes:
        connection: aiortc's.
        microphone: What it speaks with.
        events: What came, in order.
        location: Address of the call, from the answer.
    """

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.microphone = Microphone()
        self.connection.addTrack(self.microphone)
        self.channel = self.connection.createDataChannel("oai-events")
        self.channel.on("message", self._message)
        self.events: list[Event] = []
        self.location = ""
        self._changed = asyncio.Condition()
        self._late: list[asyncio.Task[None]] = []

    def _message(self, message: str) -> None:
        self.events.append(json.loads(message))
        self._told = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def call(self, url: str, session: Event | None = None) -> None:
        """Offer, and take the answer."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        sdp = self.connection.localDescription.sdp
        async with httpx2.AsyncClient() as client:
            if session is None:
                answer = await client.post(
                    f"{url}/v1/realtime/calls?model=any",
                    content=sdp,
                    headers={"Content-Type": "application/sdp"},
                )
            else:
                form = {"sdp": (None, sdp), "session": (None, json.dumps(session))}
                answer = await client.post(f"{url}/v1/realtime/calls", files=form)
        assert answer.status_code == 201, answer.text
        self.location = answer.headers["location"]
        await self.connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))

    def impair(self, loss: float, jitter_s: float, seed: int) -> None:
        """From now on lose a share of the audio packets, and delay each by up to `jitter_s`."""
        transport: Any = self.connection.getSenders()[0].transport
        deliver, chance = transport._send_rtp, random.Random(seed)

        async def send_badly(data: bytes) -> None:
            if data[1] & 127 >= 64 and 72 <= data[1] & 127 <= 76:  # RTCP arrives
                await deliver(data)
            elif chance.random() >= loss:
                delay_s = chance.uniform(0, jitter_s)
                self._late.append(asyncio.create_task(_later(deliver, data, delay_s)))

        transport._send_rtp = send_badly

    def vanish(self) -> None:
        """Say nothing more, as if the network cable had been pulled."""
        transport: Any = self.connection.getSenders()[0].transport
        for protocol in transport.transport._connection._protocols:
            protocol.transport.abort()

    def send(self, event: Event) -> None:
        """Send one event."""
        self.channel.send(json.dumps(event))

    async def event(self, kind: str, *, after: int = 0, within_s: float = 60.0) -> Event:
        """The first event of that type from index `after` on."""

        def found() -> Event | None:
            return next((one for one in self.events[after:] if one["type"] == kind), None)

        return await self._until(found, within_s)

    async def closed(self, within_s: float = 10.0) -> None:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(within_s):
            while self.connection.connectionState != "closed":  # noqa: ASYNC110  # a wait for a word
                await asyncio.sleep(0.05)

    async def _until(self, look: Callable[[], Event | None], within_s: float) -> Event:
        async with asyncio.timeout(within_s), self._changed:
            while (event := look()) is None:
                await self._changed.wait()
            return event


async def _later(deliver: Callable[[bytes], Any], data: bytes, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    await deliver(data)


@asynccontextmanager
async def peer(url: str, session: Event | None = None) -> AsyncIterator[Peer]:
    """A call that has begun."""
    one = Peer()
    try:
        await one.call(url, session)
        await one.event("session.created", within_s=15)
        yield one
    finally:
        await one.connection.close()
