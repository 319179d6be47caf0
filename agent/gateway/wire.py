"""uvicorn's WebSocket protocol, made safe against peers that stop reading or vanish.

uvicorn closes a connection only once its peer has taken all that was written, so one that
stops reading would be held for ever; and it reports a lost peer like one that closed.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from agent.gateway.transport import CLOSE_LOST, CLOSE_TRY_AGAIN_LATER

WRITE_STALL_S = 10.0
"""A peer that takes nothing for so long is cut off."""


class WebSocketWire(WebSocketsSansIOProtocol):
    """One WebSocket connection, below ASGI."""

    _stall_timer: asyncio.TimerHandle | None = None

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

    def keepalive_timeout(self) -> None:
        """The peer answers no ping: what is still unsent will never be taken."""
        super().keepalive_timeout()
        self.disconnected = True  # the app's next send says so instead of being out of place
        self.transport.abort()

    def handle_parser_exception(self) -> None:
        """The peer broke the protocol, or its message is above the ceiling; it was told."""
        super().handle_parser_exception()
        self.disconnected = True

    def _cut_off(self) -> None:
        self._tell_app(CLOSE_TRY_AGAIN_LATER, f"the client read nothing for {WRITE_STALL_S:g} s")
        self.transport.abort()

    def _tell_app(self, code: int, reason: str = "") -> None:
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _forget_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
