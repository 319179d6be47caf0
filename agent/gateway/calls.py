"""WebRTC calls over HTTP: an offer in, an answer out, and hanging up.

    POST /v1/realtime/calls                   raw SDP, or a form with `sdp` and `session`
    POST /v1/realtime/calls/{call_id}/hangup
    POST /v1/realtime/translations/calls…     the same for translation sessions

Source: OpenAI Realtime API reference, "Create call" and "Hang up call".
"""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from agent.audio import libopus
from agent.errors import EngineUnavailable, InvalidEvent, LimitExceeded
from agent.gateway import ice
from agent.gateway.body import read_body
from agent.gateway.client_secrets import with_secret
from agent.gateway.guard import SECRET_IN_SCOPE
from agent.gateway.refusals import Refusal, refuse_request
from agent.gateway.services import SessionQuery
from agent.gateway.serving import Gateway, serve_session
from agent.gateway.session_types import asking_for
from agent.gateway.transport import CLOSE_POLICY
from agent.protocol.json_objects import load_object

MAX_OFFER_BYTES = 256 * 1024
"""An offer is some 5 kB; the rest is for the settings of a session that may come with it."""


async def create_call(request: Request) -> Response:
    """`POST /v1/realtime/calls`: begin a conversation, or a transcription, over WebRTC."""
    return await _create(request, translates=False)


async def create_translation_call(request: Request) -> Response:
    """`POST /v1/realtime/translations/calls`: begin a translation over WebRTC."""
    return await _create(request, translates=True)


async def _create(request: Request, *, translates: bool) -> Response:
    gateway: Gateway = request.app.state.gateway
    if importlib.util.find_spec("aiortc") is None or not libopus.is_here():
        missing = EngineUnavailable(
            "WebRTC is not installed on this server; install voice-agent[webrtc], or use the "
            "WebSocket at /v1/realtime"
        )
        return _refused(request, Refusal(missing, 501, CLOSE_POLICY))
    try:
        offer, session = await _read_offer(request)
        query = _query(request, session, translates=translates)
    except InvalidEvent as error:
        return _refused(request, Refusal(error, 400, CLOSE_POLICY))
    except LimitExceeded as error:
        return _refused(request, Refusal(error, 413, CLOSE_POLICY))
    refusal = gateway.sessions.refusal()
    if refusal is not None:
        return _refused(request, refusal)
    # A place is taken before anything is awaited again: others may be asking at this moment.
    with ExitStack() as place:
        place.enter_context(gateway.sessions.slot())
        transport = _new_transport(gateway)
        try:
            answer = await transport.answer(offer)
        except InvalidEvent as error:
            return _refused(request, Refusal(error, 400, CLOSE_POLICY))
        call_id = f"rtc_{secrets.token_hex(12)}"
        gateway.calls[call_id] = transport
        task = asyncio.create_task(_run_call(gateway, call_id, query, place.pop_all()))
    gateway.call_tasks.add(task)
    task.add_done_callback(gateway.call_tasks.discard)
    return Response(
        answer,
        201,
        media_type="application/sdp",
        headers={"Location": f"{request.url.path}/{call_id}"},
    )


def _query(request: Request, session: Mapping[str, object], *, translates: bool) -> SessionQuery:
    """What was asked for: by the URL, by a client secret, and by what came with the offer."""
    services = request.app.state.gateway.services
    asked = SessionQuery.parse(request.query_params, translates=translates)
    query = with_secret(services, asked, request.scope.get(SECRET_IN_SCOPE))
    return asking_for(services, query, session)


def _refused(request: Request, refusal: Refusal) -> Response:
    gateway: Gateway = request.app.state.gateway
    return refuse_request(refusal, request.url.path, gateway.services.metrics)


async def hang_up(request: Request) -> Response:
    """`POST /v1/realtime/calls/{call_id}/hangup`: end a call."""
    gateway: Gateway = request.app.state.gateway
    call_id = request.path_params["call_id"]
    call = gateway.calls.get(call_id)
    if call is None:
        error = InvalidEvent(
            f"there is no call {call_id[:60]!r}, or it has ended", code="not_found", param="call_id"
        )
        return _refused(request, Refusal(error, 404, CLOSE_POLICY))
    call.hang_up()
    return Response(status_code=200)


async def _run_call(gateway: Gateway, call_id: str, query: SessionQuery, place: ExitStack) -> None:
    """Serve a call that was answered, and give its place back."""
    session_id = f"sess_{secrets.token_hex(12)}"
    with place, structlog.contextvars.bound_contextvars(session_id=session_id):
        try:
            await serve_session(gateway, session_id, gateway.calls[call_id], query)
        finally:
            del gateway.calls[call_id]


def _new_transport(gateway: Gateway) -> Any:
    from aiortc import RTCIceServer  # noqa: PLC0415  # takes a while, and is an extra

    from agent.gateway.webrtc import WebRtcTransport  # noqa: PLC0415

    services = gateway.services
    ice_servers = services.settings.ice_servers
    servers = [RTCIceServer(**one) for one in ice.as_wire(ice_servers, time.time())]
    return WebRtcTransport(servers, services.settings.limits.max_message_bytes, services.metrics)


async def _read_offer(request: Request) -> tuple[str, Mapping[str, object]]:
    """The SDP and the settings of a session, if any came.

    Raises:
        InvalidEvent: Something is missing or wrong.
        LimitExceeded: It is too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read_body(request, MAX_OFFER_BYTES)
    if body is None:
        raise LimitExceeded(
            f"the offer is above the limit of {MAX_OFFER_BYTES} bytes", code="message_too_large"
        )
    if kind == "application/sdp":
        return _sdp(body), {}
    if kind == "multipart/form-data":
        return await _read_form(request, body)
    raise InvalidEvent(
        "send the offer as application/sdp, or as multipart/form-data with the fields `sdp` and "
        f"`session` (got {kind[:60]!r})",
        code="invalid_content_type",
        param="Content-Type",
    )


async def _read_form(request: Request, body: bytes) -> tuple[str, Mapping[str, object]]:
    async def replay() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        form = await Request(request.scope, replay).form(max_files=2, max_fields=4)
    except HTTPException as error:
        raise InvalidEvent(f"the form cannot be read: {error.detail}", param="sdp") from error
    fields = {}
    for name in ("sdp", "session"):
        value = form.get(name)
        if value is not None:
            fields[name] = value.encode() if isinstance(value, str) else await value.read()
    if "sdp" not in fields:
        raise InvalidEvent("the form has no field `sdp`", param="sdp")
    return _sdp(fields["sdp"]), _session(fields.get("session", b"{}"))


def _sdp(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    if not text.strip():
        raise InvalidEvent("the offer is empty", code="invalid_offer", param="sdp")
    return text


def _session(data: bytes) -> Mapping[str, object]:
    try:
        return load_object(data, "`session`")
    except InvalidEvent as error:
        raise InvalidEvent(error.message, code=error.code, param="session") from error
