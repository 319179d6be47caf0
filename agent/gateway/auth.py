"""Who may talk to this server: host names, origins and the API key.

Any web page can open a WebSocket to a server on the same machine, and a page whose name is
made to point here (DNS rebinding) can even read answers. So the `Host` a client used and
the `Origin` of a page are checked, with and without a key.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import Scope

from agent.config import Settings
from agent.errors import ConfigError, NotAuthorized

KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""Prefix of the subprotocol in which a browser, which can set no header, sends the key."""

_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}


def load_key(settings: Settings) -> bytes | None:
    """The API key that clients must present, or None when there is none.

    Raises:
        ConfigError: The key cannot be sent in a header, or the server would be reachable
            from other machines without one.
    """
    secret = settings.load_api_key()
    if secret is not None:
        return _key_bytes(secret, "api_key_file" if settings.api_key_file else "api_key")
    if not is_loopback(settings.host):
        raise ConfigError(
            f"host: {settings.host} can be reached from other machines, so a key is needed: "
            "set api_key_file to a file that holds one, or bind to 127.0.0.1"
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address, without port) is this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class SourceRules:
    """Which `Host` and `Origin` headers are acceptable."""

    def __init__(self, host: str, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        """Take the address the server is bound to and what is allowed beside it."""
        self._hosts = {_host(name) or name for name in (_bracketed(host), *hosts)}
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._any_address = host in {"0.0.0.0", "::", ""}  # noqa: S104  # compared, not bound

    @property
    def listed_origins(self) -> frozenset[str]:
        """Origins that settings allow, as browsers send them."""
        return self._origins

    def check(self, headers: Headers, *, origin_matters: bool) -> None:
        """Refuse a request by its source.

        Args:
            headers: Of the request.
            origin_matters: False for plain reads, which browsers keep from other sites'
                pages by themselves.

        Raises:
            NotAuthorized: `Host` or `Origin` is not acceptable; `param` names the header.
        """
        host = headers.get("host", "")
        if not self._host_allowed(_host(host.lower())):
            raise NotAuthorized(
                f"this server is not called {host[:100]!r}; add the name to allowed_hosts if it is",
                code="host_not_allowed",
                param="Host",
            )
        origin = headers.get("origin")
        if origin_matters and origin is not None and not self._origin_allowed(origin, host):
            raise NotAuthorized(
                f"pages of {origin[:100]!r} may not use this server; add it to allowed_origins "
                "if they should",
                code="origin_not_allowed",
                param="Origin",
            )

    def _host_allowed(self, host: str | None) -> bool:
        if host is None:
            return False
        if is_loopback(host) or host in self._hosts:
            return True
        # Bound to all addresses we do not know which of them a client may use. An address
        # is safe: rebinding needs a name.
        return self._any_address and _is_address(host)

    def _origin_allowed(self, origin: str, host: str) -> bool:
        origin = origin.lower()
        return origin in self._origins or _same_host(origin, host.lower())


class KeyCheck:
    """Compares presented keys with the server's, if it has one."""

    def __init__(self, key: bytes | None) -> None:
        """Take the server's key; None accepts everybody, whatever they present."""
        self._key = key

    def check(self, scope: Scope) -> None:
        """Refuse a request without the right key.

        Raises:
            NotAuthorized: The key is missing or wrong.
        """
        if self._key is None:
            return
        presented = presented_key(scope)
        if presented is None:
            raise NotAuthorized(
                "this server wants an API key: send it as `Authorization: Bearer KEY`, or from a "
                f"browser as the WebSocket subprotocols `realtime` and `{KEY_SUBPROTOCOL}KEY`",
                code="missing_api_key",
                param="Authorization",
            )
        if not hmac.compare_digest(presented, self._key):
            raise NotAuthorized("the API key is wrong", param="Authorization")


def _key_bytes(secret: SecretStr, setting: str) -> bytes:
    """The key as it arrives in a header."""
    key = secret.get_secret_value()
    if not key:
        raise ConfigError(f"{setting}: is empty; leave it out or set a key")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(
            f"{setting}: holds characters that no header can carry; use one line of ASCII letters"
        )
    return key.encode()


def presented_key(scope: Scope) -> bytes | None:
    """The key that came with a request, from the header or the subprotocols."""
    scheme, _, value = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip().encode("latin-1")
    for name in scope.get("subprotocols", ()):
        if name.startswith(KEY_SUBPROTOCOL):
            key: str = name.removeprefix(KEY_SUBPROTOCOL)
            return key.encode("utf-8", "surrogateescape")
    return None


def _host(authority: str) -> str | None:
    """The host of `host[:port]`, lower-case and without brackets; None if that is none."""
    match = _AUTHORITY.fullmatch(authority.lower())
    return match["host"].strip("[]").rstrip(".") if match else None


def _bracketed(host: str) -> str:
    """An address as it stands in a `Host` header."""
    return f"[{host}]" if ":" in host else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _same_host(origin: str, host: str) -> bool:
    """Whether a page's origin is this very server, by the name it was asked for.

    The scheme may differ: a proxy may have taken TLS off.
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    default_port = _DEFAULT_PORTS.get(parts.scheme)
    if default_port is None:
        return False
    page = _AUTHORITY.fullmatch(parts.netloc)
    here = _AUTHORITY.fullmatch(host)
    if page is None or here is None:
        return False
    return page["host"] == here["host"] and (
        (page["port"] or default_port) == (here["port"] or default_port)
    )
