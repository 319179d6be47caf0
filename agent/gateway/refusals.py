"""Saying no to a connection, so that the other side can read why.

An HTTP request gets a status and a JSON body of the protocol's error shape. A WebSocket
handshake gets the same as a real HTTP answer. Browsers, however, hide that answer from
the page: where the handshake came from one, it is accepted, told in an `error` event, and
closed with a code that means the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from agent.errors import LocalError, RemoteError
from agent.gateway.transport import MAX_CLOSE_REASON_BYTES
from agent.metrics import Metrics
from agent.protocol import server_events

SUBPROTOCOL = "realtime"
"""The subprotocol that browsers offer and this server answers with."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is not served.

    Attributes:
        error: What is wrong; its code is also the metric's label.
        status: HTTP status.
        close_code: WebSocket close code of the same meaning.
        tell_browser: Whether a browser's WebSocket may be accepted to be told. Never for
            pages of other sites: they are to learn nothing.
        headers: More headers for the HTTP answer.
    """

    error: RemoteError | LocalError
    status: int
    close_code: int
    tell_browser: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """The refusal as an HTTP response."""
        error = server_events.error(self.error)["error"]
        del error["event_id"]
        return JSONResponse({"error": error}, self.status, headers=dict(self.headers))


def error_event(error: RemoteError | LocalError) -> server_events.Event:
    """An `error` event of the gateway's own, outside of a session's count of events."""
    return server_events.error(error) | {"event_id": f"event_{secrets.token_hex(8)}"}


def close_reason(text: str) -> str:
    """`text`, cut to what fits into a close frame."""
    return text.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")


def answer_subprotocol(offered: list[str]) -> str | None:
    """The subprotocol to answer with; a browser that offered some insists on an answer."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


def refuse_request(refusal: Refusal, path: str, metrics: Metrics) -> Response:
    """Refuse an HTTP request: count it, log it, and give the answer."""
    metrics.refused.labels(refusal.error.code).inc()
    log.info("request refused", reason=refusal.error.code, path=path)
    return refusal.response()


async def refuse_websocket(websocket: WebSocket, refusal: Refusal, metrics: Metrics) -> None:
    """Refuse a WebSocket that is not accepted yet, the way its client can read."""
    metrics.refused.labels(refusal.error.code).inc()
    log.info("websocket refused", reason=refusal.error.code, path=websocket.url.path)
    if not (refusal.tell_browser and _is_browser(websocket)):
        await websocket.send_denial_response(refusal.response())
        return
    try:
        await websocket.accept(answer_subprotocol(websocket.scope["subprotocols"]))
        await websocket.send_json(error_event(refusal.error))
        await websocket.close(refusal.close_code, close_reason(str(refusal.error)))
    except WebSocketDisconnect:
        log.debug("client left before it was told why it was refused")


def _is_browser(websocket: WebSocket) -> bool:
    """Whether the client cannot read an HTTP answer to its handshake.

    Browsers always send `Origin`; other runtimes with the browser's WebSocket API can set
    no header either, and are known by the subprotocol.
    """
    return "origin" in websocket.headers or SUBPROTOCOL in websocket.scope["subprotocols"]
