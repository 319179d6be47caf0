"""Sends over WebRTC: aiortc's peers with Opus that was encoded before."""

from __future__ import annotations

import asyncio
import fractions
import json
import time
import urllib.request
from multiprocessing.connection import Connection
from pathlib import Path

import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack

from agent.client.recording import read_recording
from scripts.gateway_bench.load import NOISE_PIECES, PIECE_S, SESSION, Load, Speaker, noise
from tests.helpers.opus import RATE_HZ, encoded

PACKET_SAMPLES = 960
PACKET_S = PACKET_SAMPLES / RATE_HZ
PACKETS_PER_PIECE = round(PIECE_S / PACKET_S)
CONNECT_S = 30.0


def in_pieces(samples: np.ndarray) -> list[list[bytes]]:
    """float32[T] at 48 kHz as Opus packets, two for a piece of 40 ms."""
    packets = encoded(samples)
    return [
        packets[at : at + PACKETS_PER_PIECE]
        for at in range(0, len(packets) - PACKETS_PER_PIECE + 1, PACKETS_PER_PIECE)
    ]


class Sender:
    """What all peers say, by one clock that starts for all at once."""

    def __init__(self, path: Path | None, count: int, load: Load) -> None:
        speech = in_pieces(read_recording(path).at_rate(RATE_HZ)) if path else []
        self.speaker = Speaker(speech, count)
        self.load = load
        self._count = count
        self._quiet = in_pieces(noise(RATE_HZ))
        self.began_s: float | None = None
        self.ticks = 0

    def packet(self, peer: int, number: int) -> bytes:
        """Packet `number` of a peer, counted from the start."""
        tick, part = divmod(number, PACKETS_PER_PIECE)
        piece = self.speaker.piece(peer, tick) or self._quiet[(tick + 7 * peer) % NOISE_PIECES]
        return piece[part]

    def due_s(self, peer: int, number: int) -> float:
        """When it is to be sent."""
        assert self.began_s is not None
        return self.began_s + number * PACKET_S + peer / self._count * PACKET_S


class Microphone(MediaStreamTrack):
    """Gives packets; aiortc sends encoded ones as they are."""

    kind = "audio"

    def __init__(self, sender: Sender, peer: int) -> None:
        super().__init__()
        self._sender, self._peer, self._number = sender, peer, 0

    async def recv(self) -> av.Packet:
        """The next packet in real time; none before the start and after the end."""
        sender, number = self._sender, self._number
        while sender.began_s is None or number >= sender.ticks * PACKETS_PER_PIECE:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        due_s = sender.due_s(self._peer, number)
        await asyncio.sleep(due_s - time.monotonic())
        sender.load.late_s.append(max(0.0, time.monotonic() - due_s))
        packet = av.Packet(sender.packet(self._peer, number))
        packet.pts, packet.time_base = number * PACKET_SAMPLES, fractions.Fraction(1, RATE_HZ)
        self._number += 1
        sender.load.pieces += number % PACKETS_PER_PIECE
        return packet


async def connect(port: int, sender: Sender, index: int) -> RTCPeerConnection:
    """One call, its settings made."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTrack(Microphone(sender, index))
    channel = peer.createDataChannel("oai-events")
    ready = asyncio.Event()

    @channel.on("message")  # type: ignore[untyped-decorator]
    def message(text: str) -> None:
        event = json.loads(text)
        if event["type"] == "session.created":
            channel.send(json.dumps({"type": "session.update", "session": SESSION}))
        elif event["type"] == "session.updated":
            ready.set()
        elif event["type"] == "input_audio_buffer.committed":
            sender.load.seen += 1
        elif event["type"] == "error":
            sender.load.errors.append(json.dumps(event["error"]))

    await peer.setLocalDescription(await peer.createOffer())
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/realtime/calls",
        peer.localDescription.sdp.encode(),
        {"Content-Type": "application/sdp"},
    )
    answer = await asyncio.to_thread(lambda: urllib.request.urlopen(request).read().decode())  # noqa: S310
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    async with asyncio.timeout(CONNECT_S):
        await ready.wait()
    return peer


async def send(port: int, count: int, seconds: float, path: Path | None, pipe: Connection) -> None:
    """See `send_load`."""
    load = Load()
    sender = Sender(path, count, load)
    peers = [await connect(port, sender, index) for index in range(count)]
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    sender.ticks = sender.speaker.whole(round(seconds / PIECE_S))
    cpu_before_s, sender.began_s = time.process_time(), time.monotonic()
    lasted_s = (sender.ticks + 1) * PIECE_S
    await asyncio.sleep(lasted_s)
    patience_s = sender.began_s + lasted_s + 10
    while load.pieces < count * sender.ticks and time.monotonic() < patience_s:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    load.cpu_percent = 100 * (time.process_time() - cpu_before_s) / lasted_s
    load.spoken = sender.speaker.spoken(sender.ticks)
    load.errors += [
        f"a peer is {peer.connectionState}" for peer in peers if peer.connectionState != "connected"
    ]
    pipe.send(load.pieces)
    await asyncio.to_thread(pipe.recv)
    pipe.send(load)
    for peer in peers:
        await peer.close()


def send_load(port: int, count: int, seconds: float, path: Path | None, pipe: Connection) -> None:
    """Open the calls, say `ready`, send for `seconds` from `go` on, report."""
    asyncio.run(send(port, count, seconds, path, pipe))
