"""The WebSocket transport: whole messages over Starlette's WebSocket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from agent.audio.intake import Intake
from agent.errors import LimitExceeded
from agent.gateway.refusals import answer_subprotocol, close_reason, error_event
from agent.gateway.transport import (
    CLOSE_LOST,
    CLOSE_TRY_AGAIN_LATER,
    CUT_OFF_EXTENSION,
    UNREAD_EXTENSION,
    TransportClosed,
    size_bytes,
    to_text,
)

MAX_OUTBOX_BYTES = 4 * 1024 * 1024
"""Most that may wait for a slow reader; an answer with all its events is some 100 kB."""

CLOSE_FLUSH_S = 1.0
"""How long a close waits for events that are still queued, and then for room to say so."""

log = structlog.get_logger()


class WebSocketTransport:
    """`Transport` over an accepted WebSocket.

    Attributes:
        name: `websocket`.
        ended: How the connection ended, or None while it is open.
    """

    name = "websocket"
    intake: Intake | None = None
    audio_waits_since: float | None = None

    def __init__(self, websocket: WebSocket, max_message_bytes: int) -> None:
        """Wrap an accepted WebSocket; messages above `max_message_bytes` are not passed on."""
        self.ended: TransportClosed | None = None
        self.on_clear: Callable[[], None] | None = None
        self._websocket = websocket
        # Only our own wire knows; another ASGI server's connections seem to be read at once.
        self._has_unread: Callable[[], bool] = websocket.scope.get("extensions", {}).get(
            UNREAD_EXTENSION, lambda: False
        )
        self._max_message_bytes = max_message_bytes
        self._outbox: deque[str] = deque()
        self._outbox_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None

    @classmethod
    async def accept(cls, websocket: WebSocket, max_message_bytes: int) -> WebSocketTransport:
        """Complete the handshake.

        Raises:
            TransportClosed: The client left in the middle of it.
        """
        try:
            await websocket.accept(answer_subprotocol(websocket.scope["subprotocols"]))
        except OSError as error:
            raise TransportClosed(CLOSE_LOST, by_peer=True) from error
        return cls(websocket, max_message_bytes)

    @property
    def is_clear(self) -> bool:
        """Whether nothing waits to be written; see `Transport.is_clear`."""
        return self._outbox_bytes == 0

    @property
    def has_unread(self) -> bool:
        """Whether something has come that was not received; see `Transport.has_unread`."""
        return self._has_unread()

    async def receive(self) -> str | bytes:
        """Wait for the next message; see `Transport.receive`."""
        while True:
            self._raise_if_ended()
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self._end(message["code"], message.get("reason") or "", by_peer=True)
                continue
            data: bytes | None = message.get("bytes")
            if data is not None:
                size = len(data)
                if size <= self._max_message_bytes:
                    return data
            else:
                text: str = message["text"]
                size = size_bytes(text)
                if size <= self._max_message_bytes:
                    return text
            await self.send(error_event(self._too_big(size)))

    async def send(self, event: Mapping[str, object]) -> None:
        """Queue one event; see `Transport.send`."""
        self._raise_if_ended()
        text = to_text(event)
        if self._outbox_bytes + len(text) > MAX_OUTBOX_BYTES:
            self._outbox.clear()
            self._start_closing(CLOSE_TRY_AGAIN_LATER, "the client reads too slowly")
            self._raise_if_ended()
        self._outbox.append(text)
        self._outbox_bytes += len(text)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_outbox())

    async def close(self, code: int, reason: str) -> None:
        """Flush and close; see `Transport.close`."""
        if self.ended is None:
            self._start_closing(code, reason)
        if self._closer is not None:
            await asyncio.shield(self._closer)

    def _start_closing(self, code: int, reason: str) -> None:
        self._end(code, close_reason(reason), by_peer=False)
        self._closer = asyncio.create_task(self._flush_and_close(code, close_reason(reason)))

    async def _flush_and_close(self, code: int, reason: str) -> None:
        """Give the peer a moment to take what is queued, then close in any case."""
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=CLOSE_FLUSH_S)
            self._writer.cancel()
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            return  # the writer has met a peer that is gone
        try:
            async with asyncio.timeout(CLOSE_FLUSH_S):
                await self._websocket.close(code, reason)
        except (TimeoutError, WebSocketDisconnect) as error:
            # The wire cuts a peer off that takes nothing, after a while.
            log.info("close not delivered", code=code, error=repr(error))

    async def _write_outbox(self) -> None:
        while self._outbox:
            text = self._outbox.popleft()
            try:
                await self._websocket.send_text(text)
            except WebSocketDisconnect:
                self._outbox.clear()
                slow = CUT_OFF_EXTENSION in self._websocket.scope.get("extensions", {})
                self._end(CLOSE_TRY_AGAIN_LATER if slow else CLOSE_LOST, by_peer=True)
                return
            self._outbox_bytes -= len(text)
            if not self._outbox and self.on_clear is not None:
                self.on_clear()

    def _end(self, code: int, reason: str = "", *, by_peer: bool) -> None:
        """Note how the connection ended; the first cause counts."""
        if self.ended is None:
            self.ended = TransportClosed(code, reason, by_peer=by_peer)

    def _raise_if_ended(self) -> None:
        if self.ended is not None:
            raise self.ended.with_traceback(None)

    def _too_big(self, size: int) -> LimitExceeded:
        return LimitExceeded(
            f"a message of {size} bytes is above the limit of {self._max_message_bytes}; "
            "send audio in smaller pieces",
            code="message_too_large",
        )
