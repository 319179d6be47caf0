"""The real gateway with a scripted session behind it: serves the page, says what a test tells it.

async with browser_server() as server:
    await page.goto(server.url)
    session = await server.next_session()      # the page has connected and set it up
    await session.send(server_events.speech_started("item_1", 0))
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn
from openai.types.realtime import RealtimeServerEvent, RealtimeTranslationServerEvent
from pydantic import TypeAdapter

from agent.config import Limits, Settings
from agent.engine.contract import EngineHealth, EngineInfo
from agent.errors import InvalidEvent
from agent.gateway.asgi import create_app
from agent.gateway.server import uvicorn_config
from agent.gateway.services import Services, SessionQuery
from agent.gateway.sessions import Driver, Phase, Sessions
from agent.gateway.transport import CLOSE_GOING_AWAY, Transport, TransportClosed
from agent.metrics import Metrics
from agent.protocol import server_events
from agent.protocol.config import TranscriptionConfig, merge
from agent.protocol.translation import TranslationConfig
from tests.helpers.patience import PATIENCE_S

Event = dict[str, Any]

_SESSION: Event = {"type": "realtime", "model": "scripted", "output_modalities": ["text"]}
_STANDARD_EVENT: TypeAdapter[object] = TypeAdapter(RealtimeServerEvent)
_TRANSLATION_EVENT: TypeAdapter[object] = TypeAdapter(RealtimeTranslationServerEvent)


def _shown_settings(query: SessionQuery, settings: Event) -> Event:
    """What a session of the type that was asked for shows, with these settings on top."""
    if query.translates:
        config = TranslationConfig().updated(settings)
        return {"id": "sess_1", "expires_at": 0, **config.to_wire("scripted")}
    first = TranscriptionConfig().to_wire() if query.intent == "transcription" else _SESSION
    return merge(first, settings)


class BrowserSession:
    """One session of the page; stands where the gateway has its driver.

    Attributes:
        query: The query of its URL.
        events: Client events in order.
        audio: Binary messages in order.
        received: Types of both in order, `sound` for a binary message.
        takes_items: Whether items that the page makes are accepted.
    """

    def __init__(self, transport: Transport, query: SessionQuery) -> None:
        self.query = query
        self.takes_items = True
        self.events: list[Event] = []
        self.audio: list[bytes] = []
        self.received: list[str] = []
        self._transport = transport
        self._changed = asyncio.Condition()
        self._sent = 0
        self._settings: Event = {}

    async def send(self, *events: Event) -> None:
        """Send events; standard ones are checked against the official types first."""
        for event in events:
            self._sent += 1
            numbered = event | {"event_id": f"event_{self._sent}"}
            if not event["type"].startswith(server_events.EXTENSION_PREFIX):
                standard = _TRANSLATION_EVENT if self.query.translates else _STANDARD_EVENT
                standard.validate_python(numbered)
            await self._transport.send(numbered)

    async def close(self, code: int, reason: str = "") -> None:
        """Close the connection from this side."""
        await self._transport.close(code, reason)

    def vanish(self) -> None:
        """Over WebRTC: be gone without a goodbye, as a machine whose network fails."""
        peer: Any = self._transport
        for protocol in peer._peer.sctp.transport.transport._connection._protocols:
            protocol.transport.abort()

    async def until_event(self, event_type: str, count: int = 1) -> Event:
        """Wait for the `count`-th client event of a type."""

        def found() -> list[Event]:
            return [event for event in self.events if event["type"] == event_type]

        await self._until(lambda: len(found()) >= count)
        return found()[count - 1]

    async def until_audio(self, milliseconds: float) -> None:
        """Wait for so much sound, PCM16 at 24 kHz."""
        await self._until(lambda: sum(map(len, self.audio)) >= milliseconds * 48)

    async def until_pieces(self, count: int) -> None:
        """Wait until so many messages of sound came, in any encoding."""
        await self._until(lambda: len(self.audio) >= count)

    async def _until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(happened)

    async def run(self) -> None:
        """Take what the page sends, until either side closes."""
        await self.send(server_events.session_created(_shown_settings(self.query, {})))
        while True:
            try:
                message = await self._transport.receive()
            except TransportClosed:
                return
            async with self._changed:
                if isinstance(message, bytes):
                    self.audio.append(message)
                    self.received.append("sound")
                else:
                    await self._receive(json.loads(message))
                self._changed.notify_all()

    async def shut_down(self, grace_s: float) -> None:
        """The server goes away."""
        del grace_s
        await self.close(CLOSE_GOING_AWAY)

    def summary(self) -> dict[str, object]:
        """For the gateway's log."""
        return {"events": len(self.events)}

    async def _receive(self, event: Event) -> None:
        self.events.append(event)
        self.received.append(event["type"])
        if event["type"] == "session.update":
            self._settings = merge(self._settings, event["session"])
            shown = _shown_settings(self.query, self._settings)
            await self.send(server_events.session_updated(shown))
        elif event["type"] == "conversation.item.create" and not self.takes_items:
            refusal = InvalidEvent("items are full")
            await self.send(server_events.error(refusal, event.get("event_id")))
        elif event["type"] == "conversation.item.create":
            item = {"id": f"item_typed_{len(self.events)}", "status": "completed"} | event["item"]
            await self.send(
                server_events.item_added(item, None), server_events.item_done(item, None)
            )


class BrowserServer:
    """The server; see the module's docstring. Attributes count from the next `start()` on.

    Attributes:
        port: Its port, also after `stop()`.
        note: What `/v1/models` says about the engine.
        key: The key that clients must present, or None.
        phase: Whether sessions are admitted.
        health: What the engine says of itself.
        max_sessions: How many at a time.
        web_client: Folder of the page; None for the project's.
    """

    def __init__(self) -> None:
        self.port = 0
        self.note = ""
        self.key: bytes | None = None
        self.phase = Phase.READY
        self.health = EngineHealth()
        self.max_sessions = 8
        self.web_client: Path | None = None
        self._sessions: asyncio.Queue[BrowserSession] = asyncio.Queue()
        self._admission: Sessions | None = None
        self._engine = SimpleNamespace()
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://localhost:{self.port}/"

    async def start(self) -> None:
        """Listen; on the same port as before, if it was stopped."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        settings = Settings(
            limits=Limits(max_sessions=self.max_sessions), allowed_hosts=("insecure.test",)
        )
        services = self._make_services(settings)
        app = create_app(services, self._make_session, key=self.key, web_client=self.web_client)
        self._admission = app.state.gateway.sessions
        self._admission.phase = self.phase
        config = uvicorn_config(app, settings.limits)
        self._server = uvicorn.Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    def _make_services(self, settings: Settings) -> Services:
        info = EngineInfo(name="scripted", model="scripted", note=self.note)
        # The gateway's routes use no more of an engine than what it says of itself, and no hub.
        self._engine = SimpleNamespace(info=info, health=self.health)
        return Services(settings, self._engine, None, Metrics())  # type: ignore[arg-type]

    def admit(self) -> None:
        """Admit sessions from now on."""
        assert self._admission is not None
        self._admission.phase = Phase.READY
        self._engine.health = EngineHealth()

    def offer_targets(self, *codes: str) -> None:
        """Say from now on that these are all languages that can be translated into."""
        self._engine.info = replace(self._engine.info, translation_targets=codes)

    async def stop(self) -> None:
        """Go away, closing every connection; harmless when stopped."""
        if self._server is None or self._task is None:
            return
        assert self._admission is not None
        await self._admission.drain(0)
        self._server.should_exit = True
        await self._task
        self._server = None

    async def next_session(self, within_s: float = PATIENCE_S) -> BrowserSession:
        """The page's next connection, once it is set up."""
        session = await self.next_connection(within_s)
        await session.until_event("session.update")
        return session

    async def next_connection(self, within_s: float = PATIENCE_S) -> BrowserSession:
        """The page's next connection, which it may not be able to use."""
        async with asyncio.timeout(within_s):
            return await self._sessions.get()

    def _make_session(
        self, session_id: str, transport: Transport, services: Services, query: SessionQuery
    ) -> Driver:
        del session_id, services
        session = BrowserSession(transport, query)
        self._sessions.put_nowait(session)
        return session


@asynccontextmanager
async def browser_server(**attributes: object) -> AsyncIterator[BrowserServer]:
    """A running server on a free port of the loopback interface."""
    server = BrowserServer()
    for name, value in attributes.items():
        setattr(server, name, value)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def spoken(item_id: str, start_ms: int, end_ms: int) -> list[Event]:
    """Speech that has ended and became an item."""
    item = {
        "id": item_id, "object": "realtime.item", "type": "message", "role": "user",
        "status": "completed", "content": [{"type": "input_audio", "transcript": None}],
    }  # fmt: skip
    return [
        server_events.speech_stopped(item_id, end_ms),
        server_events.audio_committed(item_id, None),
        server_events.item_added(item, None),
        server_events.item_done(item, None),
    ]


def answer_begins(response_id: str, item_id: str) -> list[Event]:
    """An answer's events up to its first text."""
    item = _answer_item(item_id, "in_progress", "")
    return [
        server_events.response_created(_response(response_id, "in_progress")),
        server_events.output_item_added(response_id, item),
        server_events.item_added(item, None),
        server_events.content_part_added(response_id, item_id),
    ]


def answer_ends(
    response_id: str, item_id: str, text: str, *, status: str = "completed", reason: str = ""
) -> list[Event]:
    """An answer's events after its last text."""
    item = _answer_item(item_id, "completed" if status == "completed" else "incomplete", text)
    details: Event | None = {"type": status, "reason": reason} if reason else None
    if status == "failed":
        error = {"type": "server_error", "code": "engine_unavailable", "message": reason}
        details = {"type": "failed", "error": error}
    return [
        server_events.text_done(response_id, item_id, text),
        server_events.content_part_done(response_id, item_id, text),
        server_events.output_item_done(response_id, item),
        server_events.item_done(item, None),
        server_events.response_done(_response(response_id, status, details)),
    ]


def _answer_item(item_id: str, status: str, text: str) -> Event:
    return {
        "id": item_id, "object": "realtime.item", "type": "message", "role": "assistant",
        "status": status, "content": [{"type": "output_text", "text": text}] if text else [],
    }  # fmt: skip


def _response(response_id: str, status: str, details: Event | None = None) -> Event:
    return server_events.response_object(
        response_id=response_id, conversation_id="conv_1", status=status, status_details=details,
        output=[], max_output_tokens="inf", metadata=None, usage=None,
    )  # fmt: skip
