"""From the address a person types to the URL of the realtime endpoint."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from agent.errors import ConfigError

REALTIME_PATH = "/v1/realtime"

_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def realtime_url(url: str, *, model: str | None = None, extensions: Collection[str] = ()) -> str:
    """The WebSocket URL of a server's realtime endpoint.

    Args:
        url: `http(s)://` or `ws(s)://`, or just `host:port`; `/v1/realtime` is added when
            there is no path, and a query is kept.
        model: For `?model=`.
        extensions: For `?extensions=`.

    Raises:
        ConfigError: That is no address of a server.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    scheme = _WEBSOCKET_SCHEMES.get(parts.scheme)
    if scheme is None or not _has_host(url, parts.hostname):
        raise ConfigError(
            f"{url!r} is no server address; write it like http://127.0.0.1:8080 or wss://host"
        )
    query = dict(parse_qsl(parts.query))
    if model:
        query["model"] = model
    if extensions:
        query["extensions"] = ",".join(sorted(extensions))
    path = parts.path if parts.path not in {"", "/"} else REALTIME_PATH
    return urlunsplit((scheme, parts.netloc, path, urlencode(query, safe=","), ""))


def uses_loopback(url: str) -> bool:
    """Whether the server is on this machine, where no proxy could reach it."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_host(url: str, host: str | None) -> bool:
    """Whether there is a host, and a port that is a number where there is one."""
    try:
        port = urlsplit(url if "://" in url else f"http://{url}").port
    except ValueError:
        return False
    return bool(host) and (port is None or port > 0)
