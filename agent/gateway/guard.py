"""One gate before all routes: host, origin and key are checked here and nowhere else."""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from agent.errors import NotAuthorized
from agent.gateway.auth import KeyCheck, SourceRules, presented_key
from agent.gateway.client_secrets import PREFIX, ClientSecrets
from agent.gateway.refusals import Refusal, refuse_request, refuse_websocket
from agent.gateway.transport import CLOSE_POLICY, CLOSE_UNAUTHORIZED
from agent.metrics import Metrics

SECRET_IN_SCOPE = "client_secret"  # noqa: S105  # a name
"""Key of the ASGI scope under which the client secret of a request is found."""

# Probes come from orchestrators that use whatever name or address they like, and learn
# nothing but a word.
_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class Guard:
    """ASGI middleware that refuses requests by their source and their key."""

    def __init__(
        self,
        app: ASGIApp,
        rules: SourceRules,
        key_check: KeyCheck,
        client_secrets: ClientSecrets,
        metrics: Metrics,
    ) -> None:
        """Stand before `app`."""
        self._app = app
        self._secrets = client_secrets
        self._rules = rules
        self._key_check = key_check
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await refuse_websocket(WebSocket(scope, receive, send), refusal, self._metrics)
        else:
            answer = refuse_request(refusal, scope["path"], self._metrics)
            await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        if scope["type"] == "lifespan" or scope["path"] in _OPEN_PATHS:
            return None
        writes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        try:
            self._rules.check(Headers(scope=scope), origin_matters=writes)
        except NotAuthorized as error:
            return Refusal(error, 403, CLOSE_POLICY, tell_browser=False)
        if not _needs_key(scope["path"]):
            return None
        try:
            self._check_key(scope)
        except NotAuthorized as error:
            headers = {"WWW-Authenticate": "Bearer"}
            return Refusal(error, 401, CLOSE_UNAUTHORIZED, headers=headers)
        return None

    def _check_key(self, scope: Scope) -> None:
        """Let the holder of the key, or of a client secret that is good for this, pass.

        Raises:
            NotAuthorized: It is neither.
        """
        presented = presented_key(scope)
        if presented is None or not presented.startswith(PREFIX.encode()):
            self._key_check.check(scope)
            return
        secret = self._secrets.find(presented, time.time())
        if secret is None:
            raise NotAuthorized(
                "the client secret is unknown or has expired; ask for another one",
                code="invalid_client_secret",
                param="Authorization",
            )
        if not secret.allows(scope["path"]):
            raise NotAuthorized(
                "a client secret opens sessions and nothing else; use the server's key here",
                code="client_secret_not_enough",
                param="Authorization",
            )
        scope[SECRET_IN_SCOPE] = secret


def _needs_key(path: str) -> bool:
    """The page itself is open: it holds nothing secret, and is where a key is typed in."""
    return path.startswith("/v1/") or path == "/metrics"
