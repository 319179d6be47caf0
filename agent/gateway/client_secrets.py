"""Client secrets: short-lived keys for pages, bound to the settings of a session.

    POST /v1/realtime/client_secrets     {"expires_after": {"anchor": "created_at", "seconds": 600},
                                          "session": {…}}

A page must not hold the server's key. Whoever holds it asks for a secret and gives that to the
page; it opens sessions, with those settings to begin with, until it expires, and can do nothing
else. Secrets live in memory: after a restart there are none.

Source: OpenAI Realtime API reference, "Create client secret".
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agent.errors import InvalidEvent, LimitExceeded
from agent.gateway.body import read_body
from agent.gateway.refusals import Refusal
from agent.gateway.services import SessionQuery
from agent.gateway.transport import CLOSE_POLICY
from agent.protocol.config import SessionConfig, TranscriptionConfig, WireModel, validate

PREFIX = "ek_"
MOST_SECRETS = 10_000
MAX_BODY_BYTES = 256 * 1024

# What a page may do with one: open sessions, end calls, and ask who answers.
_OPENS = frozenset({"/v1/realtime", "/v1/models"})
_CALLS = "/v1/realtime/calls"


class ExpiresAfter(WireModel):
    """How long a secret is good for."""

    anchor: Literal["created_at"] = "created_at"
    seconds: int = Field(600, ge=10, le=7200)


class CreateSecret(WireModel):
    """The body of the request."""

    expires_after: ExpiresAfter = ExpiresAfter()
    session: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """What a secret stands for.

    Attributes:
        session: Settings, checked.
        expires_at: Unix time.
    """

    session: Mapping[str, object]
    expires_at: float

    def allows(self, path: str) -> bool:
        """Whether its holder may ask for that path."""
        return path in _OPENS or path == _CALLS or path.startswith(_CALLS + "/")


class ClientSecrets:
    """All secrets that are good now.

    Kept by their hash, so that looking one up tells nothing by its time, and a dump of the
    memory holds none.
    """

    def __init__(self) -> None:
        self._by_hash: dict[bytes, ClientSecret] = {}

    def create(self, session: Mapping[str, object], expires_at: float, now: float) -> str:
        """A new secret for those settings; times are Unix times.

        Raises:
            LimitExceeded: There are too many already.
        """
        self._forget_expired(now)
        if len(self._by_hash) >= MOST_SECRETS:
            raise LimitExceeded(
                f"{MOST_SECRETS} client secrets are in use; let some expire, or make them shorter",
                code="too_many_client_secrets",
            )
        value = PREFIX + secrets.token_hex(24)
        self._by_hash[_hash(value.encode())] = ClientSecret(session, expires_at)
        return value

    def find(self, presented: bytes, now: float) -> ClientSecret | None:
        """What a presented key stands for, if it is a secret that is good at `now`."""
        if not presented.startswith(PREFIX.encode()):
            return None
        found = self._by_hash.get(_hash(presented))
        return found if found is not None and now < found.expires_at else None

    def _forget_expired(self, now: float) -> None:
        self._by_hash = {key: one for key, one in self._by_hash.items() if now < one.expires_at}


def _hash(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def intent_of(session: Mapping[str, object], intent: str | None) -> str | None:
    """The kind of session that its settings, or else the URL, ask for; the settings are checked.

    Raises:
        InvalidEvent: There is no such kind, or a setting is wrong.
    """
    kind = "transcription" if session.get("type") == "transcription" else intent
    if kind not in {None, "transcription"}:
        raise InvalidEvent(
            f"sessions of type {str(kind)[:60]!r} are not served here; leave intent out for a "
            "conversation, or say transcription",
            code="session_type_not_served",
            param="intent",
        )
    config = TranscriptionConfig() if kind else SessionConfig()
    config.updated(session)
    return kind


def with_secret(query: SessionQuery, secret: ClientSecret | None) -> SessionQuery:
    """The query of a session that was opened with a secret, if it was."""
    if secret is None or not secret.session:
        return query
    return query.with_settings(secret.session, intent_of(secret.session, query.intent))


async def create_client_secret(request: Request) -> Response:
    """`POST /v1/realtime/client_secrets`."""
    gateway = request.app.state.gateway
    try:
        asked = validate(CreateSecret, await _read_json(request), "")
        kind = intent_of(asked.session, None)
        now = time.time()
        expires_at = int(now) + asked.expires_after.seconds
        value = gateway.client_secrets.create(asked.session, expires_at, now)
    except InvalidEvent as error:
        return Refusal(error, 400, CLOSE_POLICY).response()
    except LimitExceeded as error:
        return Refusal(error, 429, CLOSE_POLICY).response()
    config = (TranscriptionConfig() if kind else SessionConfig()).updated(asked.session)
    session = {
        "id": f"sess_{secrets.token_hex(12)}",
        "object": f"realtime.{'transcription_' if kind else ''}session",
        **config.to_wire(),
        "expires_at": expires_at,
    }
    return JSONResponse({"value": value, "expires_at": expires_at, "session": session})


async def _read_json(request: Request) -> object:
    body = await read_body(request, MAX_BODY_BYTES)
    if body is None:
        raise InvalidEvent(f"the body is above {MAX_BODY_BYTES} bytes")
    if not body:
        return {}
    try:
        return json.loads(body)
    except ValueError as error:
        raise InvalidEvent("the body is not JSON", code="invalid_json") from error
