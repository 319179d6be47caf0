"""STUN and TURN servers: for this server's own connections, and handed to pages.

    GET /v1/realtime/ice_servers      → {"ice_servers": [{"urls", "username", "credential"}]}

It is under the key like all of `/v1/`, because credentials may be in it. Those that are made of a
TURN server's secret are good for a while only, so a page never holds one that lasts.

Source: draft-uberti-behave-turn-rest-00 (coturn's `use-auth-secret`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agent.config import IceServer

PATH = "/v1/realtime/ice_servers"

_USER = "voice-agent"


def as_wire(servers: Iterable[IceServer], now: float) -> list[dict[str, Any]]:
    """Servers as `RTCPeerConnection` takes them, in browsers and in aiortc.

    Args:
        servers: Of the settings.
        now: Unix time, at which temporary credentials begin.
    """
    return [_server(server, now) for server in servers]


async def list_ice_servers(request: Request) -> Response:
    """`GET /v1/realtime/ice_servers`."""
    settings = request.app.state.gateway.services.settings
    return JSONResponse(
        {"ice_servers": as_wire(settings.ice_servers, time.time())},
        headers={"Cache-Control": "no-store"},
    )


def _server(server: IceServer, now: float) -> dict[str, Any]:
    wire: dict[str, Any] = {"urls": list(server.urls)}
    if server.secret is not None:
        name = f"{int(now) + server.lifetime_s}:{_USER}"
        secret = server.secret.get_secret_value().encode()
        digest = hmac.new(secret, name.encode(), hashlib.sha1).digest()
        return wire | {"username": name, "credential": base64.b64encode(digest).decode()}
    if server.username is not None and server.credential is not None:
        credential = server.credential.get_secret_value()
        return wire | {"username": server.username, "credential": credential}
    return wire
