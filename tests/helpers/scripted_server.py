"""A realtime server that follows a script, on a real socket; for tests of the client.

async with scripted_server() as server:
    server.after_audio(1500, *spoken_turn("item_1", start_ms=100, end_ms=900, …))
    async with connect(server.url) as session: …
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from agent.protocol import server_events
from tests.helpers.patience import PATIENCE_S

Event = dict[str, Any]

_BYTES_PER_MS = 48  # PCM16 at 24 kHz


@dataclass
class Refusal:
    """Answer the opening handshake with an HTTP error instead."""

    status: HTTPStatus
    body: str = ""


@dataclass
class ScriptedServer:
    """What the server is told to do and what it was sent.

    Attributes:
        url: Where it listens, `http://…`.
        received: Client events of all connections, in order.
        audio: Binary messages of the present connection, joined.
        audio_times: When each of them came, in seconds, and how many bytes there were then.
        paths: Path and query of every connection.
        headers: Headers of the last connection, names in lower case.
        refusal: How to refuse connections, or None.
        connections: Open connections; close one to lose the client.
    """

    url: str = ""
    received: list[Event] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    audio_times: list[tuple[float, int]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    refusal: Refusal | None = None
    silent: bool = False
    connections: list[ServerConnection] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _session: Event = field(default_factory=dict)
    _on_audio: list[tuple[float, Sequence[Event]]] = field(default_factory=list)
    _replies: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))

    def after_audio(self, milliseconds: float, *events: Event) -> None:
        """Send events as soon as so much audio has come in one connection."""
        self._on_audio.append((milliseconds, events))

    def reply(self, event_type: str, *events: Event) -> None:
        """Send events whenever a client event of this type comes."""
        self._replies[event_type] += events

    async def until_received(self, event_type: str) -> Event:
        """Wait for a client event."""
        await self._until(lambda: any(event["type"] == event_type for event in self.received))
        return next(event for event in self.received if event["type"] == event_type)

    async def until_audio(self, milliseconds: float = 1) -> None:
        """Wait for so much audio; what is sent after it is on its way then."""
        await self._until(lambda: len(self.audio) >= milliseconds * _BYTES_PER_MS)

    def audio_came_at(self, milliseconds: float) -> float:
        """When so much audio had come, in seconds."""
        needed = milliseconds * _BYTES_PER_MS
        return next(time_s for time_s, size in self.audio_times if size >= needed)

    async def _until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not met():
                self._changed.clear()
                await self._changed.wait()

    async def handle(self, connection: ServerConnection) -> None:
        """One connection, until the client leaves."""
        assert connection.request is not None
        self.connections.append(connection)
        self.paths.append(connection.request.path)
        self.headers = {
            name.lower(): value for name, value in connection.request.headers.raw_items()
        }
        self.audio.clear()
        self.audio_times.clear()
        waiting = list(self._on_audio)
        with contextlib.suppress(ConnectionClosed):
            if not self.silent:
                await self._send(connection, server_events.session_created(self._session))
            async for message in connection:
                self._changed.set()
                if isinstance(message, bytes):
                    self.audio += message
                    self.audio_times.append((time.monotonic(), len(self.audio)))
                    while waiting and len(self.audio) >= waiting[0][0] * _BYTES_PER_MS:
                        await self._send(connection, *waiting.pop(0)[1])
                else:
                    await self._receive(connection, json.loads(message))

    async def _receive(self, connection: ServerConnection, event: Event) -> None:
        self.received.append(event)
        if event["type"] in self._replies:
            await self._send(connection, *self._replies[event["type"]])
        elif event["type"] == "session.update":
            self._session |= event["session"]
            await self._send(connection, server_events.session_updated(self._session))

    async def _send(self, connection: ServerConnection, *events: Event) -> None:
        for number, event in enumerate(events):
            await connection.send(json.dumps({"event_id": f"event_{number}", **event}))

    def _refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refusal is None:
            return None
        return connection.respond(self.refusal.status, self.refusal.body)


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    """A server on a free port of the loopback interface."""
    server = ScriptedServer()
    async with serve(
        server.handle, "127.0.0.1", 0, process_request=server._refuse, max_size=None
    ) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        server.url = f"http://127.0.0.1:{port}"
        yield server


def user_turn(item_id: str, *, start_ms: int, end_ms: int) -> list[Event]:
    """Speech that begins and ends, and becomes an item."""
    return [
        server_events.speech_started(item_id, start_ms),
        server_events.speech_stopped(item_id, end_ms),
        server_events.audio_committed(item_id, None),
    ]


def answer(response_id: str, *deltas: str, status: str = "completed") -> list[Event]:
    """An answer from its beginning to its end."""
    item_id = f"item_of_{response_id}"
    return [
        server_events.response_created(response_object(response_id, "in_progress")),
        *(server_events.text_delta(response_id, item_id, delta) for delta in deltas),
        server_events.response_done(response_object(response_id, status)),
    ]


def response_object(response_id: str, status: str) -> Event:
    """The `response` of an event."""
    error = {"type": "server_error", "code": "engine_error", "message": "the engine has gone"}
    failed = {"type": "failed", "error": error}
    return server_events.response_object(
        response_id=response_id,
        conversation_id="conv_1",
        status=status,
        status_details=failed if status == "failed" else None,
        output=[],
        max_output_tokens="inf",
        metadata=None,
        usage=None,
    )


def spoken_turn(
    item_id: str,
    *,
    start_ms: int,
    end_ms: int,
    transcript: str,
    deltas: Sequence[str] = (),
    speech_end_ms: int | None = None,
) -> list[Event]:
    """A turn that is heard and, when there are deltas, answered and measured."""
    events = user_turn(item_id, start_ms=start_ms, end_ms=end_ms)
    events.append(server_events.transcription_completed(item_id, transcript, 1.0))
    if deltas:
        response_id = f"resp_{item_id}"
        events += answer(response_id, *deltas)
        if speech_end_ms is not None:
            events.append(timings(item_id, response_id, speech_end_ms))
    return events


def timings(item_id: str, response_id: str | None, speech_end_ms: int) -> Event:
    """The measurements of one turn."""
    return server_events.turn_timings(
        item_id=item_id,
        response_id=response_id,
        speech_end_ms=speech_end_ms,
        turn_end_delay_ms=510.0,
        speech_end_to_first_token_ms=730.0,
        stages_ms={"endpointing": 510.0, "recognition": 180.0, "prompt": 40.0},
    )
