"""uvicorn's WebSocket protocol: safe against bad peers, and cheap for live audio.

uvicorn closes a connection only once its peer has taken all that was written, so one that
stops reading would be held for ever; it reports a lost peer like one that closed, and a refused
one as an error.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import OPEN

from agent.gateway.transport import (
    CLOSE_LOST,
    CLOSE_TRY_AGAIN_LATER,
    CUT_OFF_EXTENSION,
    UNREAD_EXTENSION,
    unread_bytes,
)

try:
    from websockets.speedups import apply_mask
except ImportError:  # not compiled for every platform
    from websockets.utils import apply_mask

WRITE_STALL_S = 60.0
"""A peer that takes nothing for so long is cut off; one may well not read while it speaks."""

UNSENT_BYTES = 4096
"""So much the kernel takes before we learn that the peer is slow, beside what is on its way. Linux
would take 4 MB (loopback), minutes of text that could not be withheld any more."""

MAX_QUEUED_MESSAGES = 8
"""Whole messages taken in before the socket is not read until the session has caught up."""

_FINAL_BINARY = 0x82
_MASKED = 0x80
_TWO_BYTE_LENGTH = _MASKED | 126


class WebSocketWire(WebSocketsSansIOProtocol):
    """One WebSocket connection, below ASGI."""

    _stall_timer: asyncio.TimerHandle | None = None
    # Since the last ping; also where its answer may lie behind what we do not read.
    _shows_life: bool = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Learn at once when the peer is slow: text then waits where it can be taken back."""
        super().connection_made(transport)
        # Not 0: over TLS a transport pauses when as much as `high` waits, so always. Below the
        # encryption 64 KiB more may wait, which uvloop lets nobody change.
        self.transport.set_write_buffer_limits(high=1)
        connection = transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Not on a Unix socket, behind a proxy.
            with suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the peer.

        Live audio arrives as one small binary message at a time. One that came whole is
        unmasked here: the general parser would take twice as long for it.
        """
        self._shows_life = True
        payload_at = whole_binary_message(data)
        if payload_at and self._is_between_messages():
            payload = apply_mask(data[payload_at:], data[payload_at - 4 : payload_at])
            self.queue.put_nowait({"type": "websocket.receive", "bytes": payload})
            if self.queue.qsize() >= MAX_QUEUED_MESSAGES and not self.read_paused:
                self.read_paused = True
                self.transport.pause_reading()
            return
        super().data_received(data)

    async def send(self, message: Any) -> None:
        """Take a message of the application; see ASGI.

        A refusal is as good an end of a handshake as any. uvicorn would log an error of ours
        for each.
        """
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True

    async def run_asgi(self) -> None:
        """Run the application; it can ask whether there is something that it did not get yet."""
        extensions: Any = self.scope["extensions"]
        extensions[UNREAD_EXTENSION] = self._has_unread
        await super().run_asgi()

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write: from here on it has a time limit."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(WRITE_STALL_S, self._cut_off)

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._forget_stall()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; without a close frame the peer was lost."""
        self._forget_stall()
        if self.handshake_complete and self.conn.close_rcvd is None:
            self._tell_app(CLOSE_LOST)
        super().connection_lost(exc)

    def send_keepalive_ping(self) -> None:
        """Ask the peer whether it is there."""
        self._shows_life = self.read_paused
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        """The peer answers no ping: what is still unsent will never be taken.

        Unless it is we who are slow: who sends audio faster than it is worked on has its
        answers behind it, and is asked again.
        """
        if self._shows_life:
            self.pong_timer = None
            self.schedule_ping()
            return
        super().keepalive_timeout()
        self.disconnected = True  # the app's next send says so instead of being out of place
        self.transport.abort()

    def handle_parser_exception(self) -> None:
        """The peer broke the protocol, or its message is above the ceiling; it was told."""
        super().handle_parser_exception()
        self.disconnected = True

    def _has_unread(self) -> bool:
        connection = self.transport.get_extra_info("socket")
        if not self.queue.empty() or connection is None:
            return not self.queue.empty()
        return connection.fileno() >= 0 and unread_bytes(connection.fileno()) > 0

    def _is_between_messages(self) -> bool:
        """Whether the general parser waits for the first byte of a message.

        It is a generator, `ServerProtocol.parse`, around another, `Protocol.parse`, which
        then is in `StreamReader.at_eof`; anywhere else it is inside a frame.
        """
        parser: Any = self.conn.parser
        frames = parser.gi_yieldfrom
        waiting = frames and frames.gi_yieldfrom
        return (
            waiting is not None
            and waiting.__name__ == "at_eof"
            and self.conn.state is OPEN
            and self.conn.cur_size is None  # no message in fragments has begun
            and not self.close_sent
        )

    def _cut_off(self) -> None:
        extensions: Any = self.scope["extensions"]
        extensions[CUT_OFF_EXTENSION] = True  # for who only sends, and reads no message
        self._tell_app(CLOSE_TRY_AGAIN_LATER, f"the client read nothing for {WRITE_STALL_S:g} s")
        self.transport.abort()

    def _tell_app(self, code: int, reason: str = "") -> None:
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _forget_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


def whole_binary_message(data: bytes) -> int:
    """Where the payload begins if `data` looks like one masked binary message of up to 64 KB.

    Returns:
        Its index, four bytes of mask before it; 0 if `data` is anything else.

    Source: RFC 6455, section 5.2.
    """
    if len(data) < 6 or data[0] != _FINAL_BINARY:
        return 0
    if data[1] == _TWO_BYTE_LENGTH:
        return 8 if len(data) == 8 + (data[2] << 8 | data[3]) else 0
    return 6 if _MASKED <= data[1] < _TWO_BYTE_LENGTH and len(data) == 6 + data[1] - _MASKED else 0
