"""Client secrets: short-lived keys for pages, bound to the settings of a session.

    POST /v1/realtime/client_secrets                  of conversations and transcriptions
    POST /v1/realtime/translations/client_secrets     of translations
    {"expires_after": {"anchor": "created_at", "seconds": 600}, "session": {…}}

A page must not hold the server's key. Whoever holds it asks for a secret and gives that to the
page; it opens sessions of its kind, with those settings to begin with, until it expires, and can
do nothing else. Secrets live in memory: after a restart there are none.

Source: OpenAI Realtime API reference, "Create client secret", "Create translation client secret".
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agent.errors import InvalidEvent, LimitExceeded
from agent.gateway import ice
from agent.gateway.body import read_body
from agent.gateway.refusals import Refusal
from agent.gateway.services import Services, SessionQuery
from agent.gateway.session_types import asking_for
from agent.gateway.transport import CLOSE_POLICY
from agent.protocol.config import SessionConfig, TranscriptionConfig, WireModel
from agent.protocol.json_objects import load_object
from agent.protocol.validation import validate
from agent.session.targets import first_config

PREFIX = "ek_"
MOST_SECRETS = 10_000
MAX_BODY_BYTES = 256 * 1024

# What a page may do with one beside opening sessions and ending calls: ask who answers, and how
# to get there.
_ASKS = frozenset({"/v1/models", ice.PATH})
_CONVERSATIONS = "/v1/realtime"
_TRANSLATIONS = "/v1/realtime/translations"


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
        translates: Whether it is for translation sessions, or for all others.
    """

    session: Mapping[str, object]
    expires_at: float
    translates: bool = False

    def allows(self, path: str) -> bool:
        """Whether its holder may ask for that path."""
        sessions = _TRANSLATIONS if self.translates else _CONVERSATIONS
        calls = sessions + "/calls"
        return path in _ASKS or path in {sessions, calls} or path.startswith(calls + "/")


class ClientSecrets:
    """All secrets that are good now.

    Kept by their hash, so that looking one up tells nothing by its time, and a dump of the
    memory holds none.
    """

    def __init__(self) -> None:
        self._by_hash: dict[bytes, ClientSecret] = {}

    def create(self, secret: ClientSecret, now: float) -> str:
        """A new value that stands for `secret`; `now` is a Unix time.

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
        self._by_hash[_hash(value.encode())] = secret
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


def with_secret(
    services: Services, query: SessionQuery, secret: ClientSecret | None
) -> SessionQuery:
    """The query of a session, with the settings of the secret it was opened with, if it was.

    Raises:
        InvalidEvent: The URL asks for a kind of session that there is not.
    """
    return asking_for(services, query, secret.session if secret is not None else {})


async def create_client_secret(request: Request) -> Response:
    """`POST /v1/realtime/client_secrets`."""
    return await _create(request, SessionQuery())


async def create_translation_secret(request: Request) -> Response:
    """`POST /v1/realtime/translations/client_secrets`."""
    return await _create(request, SessionQuery(translates=True))


async def _create(request: Request, query: SessionQuery) -> Response:
    gateway = request.app.state.gateway
    services: Services = gateway.services
    try:
        asked = validate(CreateSecret, await _read_json(request), "")
        query = asking_for(services, query, asked.session)
        now = time.time()
        expires_at = int(now) + asked.expires_after.seconds
        secret = ClientSecret(asked.session, expires_at, query.translates)
        value = gateway.client_secrets.create(secret, now)
    except InvalidEvent as error:
        return Refusal(error, 400, CLOSE_POLICY).response()
    except LimitExceeded as error:
        return Refusal(error, 429, CLOSE_POLICY).response()
    session = {
        "id": f"sess_{secrets.token_hex(12)}",
        **_shown(services, query, asked.session),
        "expires_at": expires_at,
    }
    return JSONResponse({"value": value, "expires_at": expires_at, "session": session})


def _shown(
    services: Services, query: SessionQuery, session: Mapping[str, object]
) -> Mapping[str, object]:
    """The settings as they will be in effect, but for the server's own."""
    if query.translates:
        info = services.engine.info
        return first_config(info.translation_targets, (session,)).to_wire(info.model)
    if query.intent == "transcription":
        shown = TranscriptionConfig().updated(session).to_wire()
        return {"object": "realtime.transcription_session", **shown}
    return {"object": "realtime.session", **SessionConfig().updated(session).to_wire()}


async def _read_json(request: Request) -> object:
    body = await read_body(request, MAX_BODY_BYTES)
    if body is None:
        raise InvalidEvent(f"the body is above {MAX_BODY_BYTES} bytes")
    if not body:
        return {}
    return load_object(body, "the body")
