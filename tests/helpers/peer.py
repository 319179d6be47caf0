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
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2
import numpy as np
import soxr
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack
from av import AudioFrame, Packet

from tests.helpers.opus import RATE_HZ, encoded
from tests.helpers.patience import PATIENCE_S

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


class OpusMicrophone(MediaStreamTrack):
    """Plays packets in real time that were encoded before, and silence between.

    Args:
        pauses: Whether it sends nothing in silence, as a browser's encoder may.
        options: More of the encoder; see `tests.helpers.opus`.
    """

    kind = "audio"

    def __init__(self, *, pauses: bool = False, **options: str) -> None:
        super().__init__()
        self._options = options
        (self._quiet,) = [None] if pauses else encoded(np.zeros(FRAME_SAMPLES, np.float32))
        self._waiting: deque[bytes] = deque()
        self._number = 0
        self._began_s: float | None = None

    @property
    def is_silent(self) -> bool:
        """Whether all of it was said."""
        return not self._waiting

    def say(self, samples: np.ndarray) -> None:
        """Add float32[T] at 16 kHz."""
        self.say_packets(encoded(soxr.resample(samples, 16_000, RATE_HZ), **self._options))

    def say_packets(self, packets: Sequence[bytes]) -> None:
        """Add what was encoded elsewhere, 20 ms each."""
        self._waiting.extend(packets)

    async def recv(self) -> Packet:
        """The next packet, when it is due."""
        loop = asyncio.get_running_loop()
        if self._began_s is None:
            self._began_s = loop.time()
        payload = None
        while payload is None:
            due_s = self._began_s + self._number * FRAME_SAMPLES / RATE_HZ
            await asyncio.sleep(due_s - loop.time())
            payload = self._waiting.popleft() if self._waiting else self._quiet
            self._number += 1
        packet = Packet(payload)
        packet.pts = (self._number - 1) * FRAME_SAMPLES
        packet.time_base = fractions.Fraction(1, RATE_HZ)
        return packet


AnyMicrophone = Microphone | OpusMicrophone


class Peer:
    """One call.

    Args:
        microphone: What it speaks with.
        configuration: Of the connection; no ICE servers by default.

    Attributes:
        connection: aiortc's.
        microphone: What it speaks with now.
        events: What came, in order.
        location: Address of the call, from the answer.
        offer_as_sent: What is made of the offer before it is sent.
    """

    def __init__(
        self,
        microphone: AnyMicrophone | None = None,
        configuration: RTCConfiguration | None = None,
    ) -> None:
        self.connection = RTCPeerConnection(configuration or RTCConfiguration(iceServers=[]))
        self.microphone = microphone or Microphone()
        self.connection.addTrack(self.microphone)
        self.channel = self.connection.createDataChannel("oai-events")
        self.channel.on("message", self._message)
        self.events: list[Event] = []
        self.location = ""
        self.offer_as_sent: Callable[[str], str] = str
        self._changed = asyncio.Condition()
        self._late: list[asyncio.Task[None]] = []

    def _message(self, message: str) -> None:
        self.events.append(json.loads(message))
        self._told = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def call(
        self, url: str, session: Event | None = None, kind: str = "realtime", key: str = "any"
    ) -> None:
        """Offer, and take the answer; `kind` is a part of the address."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        sdp = self.offer_as_sent(self.connection.localDescription.sdp)
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as client:
            if session is None:
                answer = await client.post(
                    f"{url}/v1/{kind}/calls?model=any",
                    content=sdp,
                    headers={"Content-Type": "application/sdp"},
                )
            else:
                form = {"sdp": (None, sdp), "session": (None, json.dumps(session))}
                answer = await client.post(f"{url}/v1/{kind}/calls", files=form)
        assert answer.status_code == 201, answer.text
        self.location = answer.headers["location"]
        await self.connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))

    def impair(
        self, loss: float, jitter_s: float, seed: int, burst: float | None = None
    ) -> list[int]:
        """From now on lose a share of the audio packets, and delay each by up to `jitter_s`.

        Args:
            loss: The share.
            jitter_s: The longest delay.
            seed: Of chance.
            burst: Packets that are lost in a row, in the mean; each by itself where None.

        Returns:
            How many there were and how many were lost, so far.
        """
        transport: Any = self.connection.getSenders()[0].transport
        deliver, chance, counts = transport._send_rtp, random.Random(seed), [0, 0]
        fates = losses(chance, loss, burst)

        async def send_badly(data: bytes) -> None:
            if data[1] & 127 >= 64 and 72 <= data[1] & 127 <= 76:  # RTCP arrives
                await deliver(data)
                return
            is_lost = next(fates)
            counts[0] += 1
            counts[1] += is_lost
            if not is_lost:
                delay_s = chance.uniform(0, jitter_s)
                self._late.append(asyncio.create_task(_later(deliver, data, delay_s)))

        transport._send_rtp = send_badly
        return counts

    def use_microphone(self, microphone: AnyMicrophone | None) -> None:
        """Change the device, or take it away."""
        self.connection.getSenders()[0].replaceTrack(microphone)
        if microphone is not None:
            self.microphone = microphone

    def way(self) -> tuple[str, str]:
        """Kinds of the addresses it speaks from and to: `host`, `srflx`, `prflx` or `relay`."""
        transport: Any = self.connection.getSenders()[0].transport
        pair = transport.transport._connection._nominated[1]
        return pair.local_candidate.type, pair.remote_candidate.type

    async def report(self) -> Any:
        """What the server has said about the packets it got; None until it has."""
        for one in (await self.connection.getSenders()[0].getStats()).values():
            if one.type == "remote-inbound-rtp":
                return one
        return None

    def vanish(self) -> None:
        """Say nothing more, as if the network cable had been pulled."""
        transport: Any = self.connection.getSenders()[0].transport
        for protocol in transport.transport._connection._protocols:
            protocol.transport.abort()

    def send(self, event: Event) -> None:
        """Send one event."""
        self.channel.send(json.dumps(event))

    async def event(self, kind: str, *, after: int = 0, within_s: float = PATIENCE_S) -> Event:
        """The first event of that type from index `after` on."""

        def found() -> Event | None:
            return next((one for one in self.events[after:] if one["type"] == kind), None)

        return await self._until(found, within_s)

    async def closed(self, within_s: float = PATIENCE_S) -> None:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(within_s):
            while self.connection.connectionState != "closed":  # noqa: ASYNC110  # a wait for a word
                await asyncio.sleep(0.05)

    async def _until(self, look: Callable[[], Event | None], within_s: float) -> Event:
        async with asyncio.timeout(within_s), self._changed:
            while (event := look()) is None:
                await self._changed.wait()
            return event


def losses(chance: random.Random, share: float, burst: float | None = None) -> Iterator[bool]:
    """Whether each packet is lost, for ever; the arguments are those of `Peer.impair`.

    Bursts are Gilbert's model: a network that is good loses nothing, one that is bad everything,
    and it changes by chance (E. N. Gilbert, "Capacity of a burst-noise channel", 1960).
    """
    if burst is None:
        while True:
            yield chance.random() < share
    to_good = 1 / burst
    to_bad = share * to_good / (1 - share)
    is_bad = chance.random() < share
    while True:
        yield is_bad
        is_bad = chance.random() < (1 - to_good if is_bad else to_bad)


async def _later(deliver: Callable[[bytes], Any], data: bytes, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    with suppress(ConnectionError):  # the call is over
        await deliver(data)


@asynccontextmanager
async def peer(
    url: str,
    session: Event | None = None,
    kind: str = "realtime",
    key: str = "any",
    microphone: AnyMicrophone | None = None,
    configuration: RTCConfiguration | None = None,
) -> AsyncIterator[Peer]:
    """A call that has begun."""
    one = Peer(microphone, configuration)
    try:
        await one.call(url, session, kind, key)
        await one.event("session.created")
        yield one
    finally:
        await one.connection.close()
