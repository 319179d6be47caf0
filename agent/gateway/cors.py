"""Lets pages of allowed origins read what the API answers them (CORS).

Only the API under `/v1/`, only origins of `allowed_origins`. Everybody else gets no header at all
and is left to the guard; what is allowed here passes the guard as any other request does, with a
key where one is needed.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol, and for private networks
https://wicg.github.io/private-network-access/
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from agent.errors import NotAuthorized
from agent.gateway.auth import SourceRules

METHODS = ("GET", "POST")
EXPOSED = ("Location", "Retry-After")
"""Headers of an answer that a page may read beside the few that it always may."""

PREFLIGHT_MAX_AGE_S = 600


class CrossOrigin:
    """ASGI middleware, outside of the guard: a preflight has no key."""

    def __init__(self, app: ASGIApp, rules: SourceRules) -> None:
        """Stand before `app`."""
        self._app = app
        self._rules = rules
        self._allowing = CORSMiddleware(
            app,
            allow_origins=sorted(rules.listed_origins),
            allow_methods=METHODS,
            allow_headers=["*"],  # SDKs send some of their own
            expose_headers=EXPOSED,
            # An allowed page from the internet may find this server on a private network.
            allow_private_network=True,
            max_age=PREFLIGHT_MAX_AGE_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its answer with headers for the page where it may read it."""
        app = self._allowing if self._is_allowed(scope) else self._app
        await app(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            return False
        headers = Headers(scope=scope)
        if headers.get("origin") not in self._rules.listed_origins:
            return False
        try:
            self._rules.check(headers, origin_matters=True)
        except NotAuthorized:
            return False
        return True
