"""Sends over WebSockets: blocking sockets and websockets' protocol without I/O."""

from __future__ import annotations

import json
import select
import socket
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from agent.client.recording import read_recording
from scripts.gateway_bench.load import NOISE_PIECES, PIECE_S, SESSION, Load, Speaker, noise

RATE_HZ = 24_000
PIECE_SAMPLES = int(RATE_HZ * PIECE_S)
SETTINGS = {"type": "session.update", "session": SESSION}


def frame(pcm: bytes) -> bytes:
    """One binary WebSocket message; the mask is zero, which the server cannot tell."""
    return b"\x82\xfe" + len(pcm).to_bytes(2, "big") + b"\x00\x00\x00\x00" + pcm


def frames(samples: np.ndarray) -> list[bytes]:
    """float32[T] at 24 kHz as messages of 40 ms; a last part is filled up with silence."""
    padded = np.pad(samples, (0, -samples.size % PIECE_SAMPLES))
    pcm = (np.clip(padded, -1, 1) * 32767).astype("<i2")
    return [frame(piece.tobytes()) for piece in pcm.reshape(-1, PIECE_SAMPLES)]


class Stream:
    """One session."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/v1/realtime"))
        self.protocol.send_request(self.protocol.connect())
        self._flush()
        while not any(event["type"] == "session.created" for event in self.receive()):
            pass
        self.protocol.send_text(json.dumps(SETTINGS).encode())
        self._flush()

    def receive(self) -> list[dict[str, object]]:
        """Events that have arrived; answers pings."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.protocol.receive_data(data)
        self._flush()
        return [
            json.loads(bytes(message.data))
            for message in self.protocol.events_received()
            if isinstance(message, Frame) and message.opcode is Opcode.TEXT
        ]

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.socket.sendall(data)


def send_load(port: int, count: int, seconds: float, path: Path | None, pipe: Connection) -> None:
    """Open the streams, say `ready`, send for `seconds` from `go` on, report."""
    recording = frames(read_recording(path).at_rate(RATE_HZ)) if path else []
    quiet = frames(noise(RATE_HZ))
    streams = [Stream(port) for _ in range(count)]
    speaker = Speaker(recording, count)
    load = Load()
    poller = select.epoll()
    by_descriptor = {stream.socket.fileno(): stream for stream in streams}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.EPOLLIN)
    pipe.send("ready")
    pipe.recv()
    ticks = speaker.whole(round(seconds / PIECE_S))
    began_s, cpu_before_s = time.monotonic(), time.process_time()
    for tick in range(ticks):
        for index, stream in enumerate(streams):
            due_s = began_s + (tick + index / count) * PIECE_S
            wait_s = due_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            piece = speaker.piece(index, tick) or quiet[(tick + 7 * index) % NOISE_PIECES]
            stream.socket.sendall(piece)
            load.late_s.append(max(0.0, time.monotonic() - due_s))
        load.pieces += count
        read_events(poller, by_descriptor, load)
    lasted_s = time.monotonic() - began_s
    load.cpu_percent = 100 * (time.process_time() - cpu_before_s) / lasted_s
    load.spoken = speaker.spoken(ticks)
    pipe.send(load.pieces)
    while not pipe.poll(0.05):
        read_events(poller, by_descriptor, load)
    pipe.send(load)


def read_events(poller: select.epoll, streams: dict[int, Stream], load: Load) -> None:
    """Take what the server has sent."""
    for descriptor, _ in poller.poll(0):
        for event in streams[descriptor].receive():
            if event["type"] == "input_audio_buffer.committed":
                load.seen += 1
            elif event["type"] == "error":
                load.errors.append(json.dumps(event["error"]))
