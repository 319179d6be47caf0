"""The routes of the server as one Starlette application."""

from __future__ import annotations

import secrets
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from agent import metrics
from agent.errors import InvalidEvent, RemoteError
from agent.gateway import ice
from agent.gateway.auth import KeyCheck, SourceRules
from agent.gateway.calls import create_call, create_translation_call, hang_up
from agent.gateway.client_secrets import (
    ClientSecrets,
    create_client_secret,
    create_translation_secret,
    with_secret,
)
from agent.gateway.cors import CrossOrigin
from agent.gateway.guard import SECRET_IN_SCOPE, Guard
from agent.gateway.pages import Pages, web_client_folder
from agent.gateway.refusals import Refusal, refuse_websocket
from agent.gateway.services import Services, SessionQuery
from agent.gateway.serving import Gateway, serve_session
from agent.gateway.sessions import DriverFactory, Phase, Sessions
from agent.gateway.transport import CLOSE_POLICY, TransportClosed
from agent.gateway.websocket import WebSocketTransport
from agent.languages import LANGUAGES

log = structlog.get_logger()


def create_app(
    services: Services,
    make_driver: DriverFactory,
    *,
    key: bytes | None = None,
    web_client: Path | None = None,
) -> Starlette:
    """The application; `app.state.gateway.sessions.phase` decides when it admits sessions.

    Args:
        services: Shared by all sessions.
        make_driver: Makes the driver of each new session.
        key: What clients must present; None accepts all.
        web_client: Folder of the page; None for the one of this package.
    """
    settings = services.settings
    rules = SourceRules(settings.host, settings.allowed_hosts, settings.allowed_origins)
    client_secrets = ClientSecrets()
    app = Starlette(
        routes=[
            WebSocketRoute("/v1/realtime", realtime),
            Route("/v1/realtime/client_secrets", create_client_secret, methods=["POST"]),
            Route("/v1/realtime/calls", create_call, methods=["POST"]),
            Route("/v1/realtime/calls/{call_id}/hangup", hang_up, methods=["POST"]),
            Route(ice.PATH, ice.list_ice_servers),
            WebSocketRoute("/v1/realtime/translations", translations),
            Route(
                "/v1/realtime/translations/client_secrets",
                create_translation_secret,
                methods=["POST"],
            ),
            Route("/v1/realtime/translations/calls", create_translation_call, methods=["POST"]),
            Route("/v1/realtime/translations/calls/{call_id}/hangup", hang_up, methods=["POST"]),
            Route("/v1/models", models),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", prometheus),
            WebSocketRoute("/{path:path}", no_such_websocket),
            Mount("/", Pages(web_client or web_client_folder())),
        ],
        middleware=[
            Middleware(CrossOrigin, rules=rules),
            Middleware(
                Guard,
                rules=rules,
                key_check=KeyCheck(key),
                client_secrets=client_secrets,
                metrics=services.metrics,
            ),
        ],
        exception_handlers={HTTPException: http_error},
    )
    sessions = Sessions(settings.limits.max_sessions, services.engine, services.metrics)
    app.state.gateway = Gateway(services, sessions, make_driver, client_secrets)
    return app


async def realtime(websocket: WebSocket) -> None:
    """`/v1/realtime`: one conversation."""
    await _session(websocket, SessionQuery.parse(websocket.query_params))


async def translations(websocket: WebSocket) -> None:
    """`/v1/realtime/translations`: one translation session."""
    await _session(websocket, SessionQuery.parse(websocket.query_params, translates=True))


async def _session(websocket: WebSocket, query: SessionQuery) -> None:
    """One session, from its handshake to its end."""
    gateway: Gateway = websocket.app.state.gateway
    try:
        query = with_secret(gateway.services, query, websocket.scope.get(SECRET_IN_SCOPE))
        refusal = gateway.sessions.refusal()
    except InvalidEvent as error:
        refusal = Refusal(error, 400, CLOSE_POLICY)
    if refusal is not None:
        await refuse_websocket(websocket, refusal, gateway.services.metrics)
        return
    session_id = f"sess_{secrets.token_hex(12)}"
    with gateway.sessions.slot(), structlog.contextvars.bound_contextvars(session_id=session_id):
        try:
            transport = await WebSocketTransport.accept(
                websocket, gateway.services.settings.limits.max_message_bytes
            )
        except TransportClosed:
            log.info("client left during the handshake")
            return
        await serve_session(gateway, session_id, transport, query)


async def models(request: Request) -> Response:
    """`/v1/models`: the one model there is, and what people should know about it."""
    info = request.app.state.gateway.services.engine.info
    every_language = [language.code for language in LANGUAGES]
    model = {
        "id": info.model,
        "object": "model",
        "created": 0,
        "owned_by": "voice-agent",
        "note": info.note,
        "languages": info.languages or every_language,
        "translation_targets": info.translation_targets or every_language,
    }
    return JSONResponse({"object": "list", "data": [model]})


async def healthz(request: Request) -> Response:
    """`/healthz`: this process answers."""
    del request
    return JSONResponse({"status": "alive"})


async def readyz(request: Request) -> Response:
    """`/readyz`: whether a session may be opened now, or why not."""
    sessions: Sessions = request.app.state.gateway.sessions
    refusal = sessions.refusal()
    if refusal is None:
        return JSONResponse({"status": "ready"})
    body = {"status": "not ready", "phase": sessions.phase, "reason": str(refusal.error)}
    return JSONResponse(body, refusal.status, headers=dict(refusal.headers))


async def prometheus(request: Request) -> Response:
    """`/metrics`: for Prometheus."""
    gateway: Gateway = request.app.state.gateway
    services, health = gateway.services, gateway.services.engine.health
    services.metrics.note_engine(
        ready=health.ready and gateway.sessions.phase is not Phase.LOADING,
        restarts=health.restarts,
        backlog_s=health.backlog_s,
    )
    return Response(services.metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})


async def no_such_websocket(websocket: WebSocket) -> None:
    """Any other WebSocket address."""
    gateway: Gateway = websocket.app.state.gateway
    error = InvalidEvent(
        f"there is no WebSocket at {websocket.url.path[:200]}; sessions are at /v1/realtime "
        "and /v1/realtime/translations",
        code="not_found",
    )
    await refuse_websocket(websocket, Refusal(error, 404, CLOSE_POLICY), gateway.services.metrics)


async def http_error(request: Request, error: Exception) -> Response:
    """404, 405 and the like, in the protocol's error shape."""
    assert isinstance(error, HTTPException)
    cause = RemoteError(
        f"{request.method} {request.url.path[:200]}: {error.detail}",
        code=error.detail.lower().replace(" ", "_"),
    )
    return Refusal(cause, error.status_code, CLOSE_POLICY, headers=error.headers or {}).response()
