"""Which server the client commands talk to, and with which key."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from agent.config import load_settings


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is.

    Attributes:
        url: Its address.
        api_key: What it wants to be shown, or None.
    """

    url: str
    api_key: str | None


def find_server(url: str | None, api_key_file: Path | None) -> ServerAddress:
    """The server that is named, else the one that the settings would start on this machine.

    Raises:
        ConfigError: The settings are wrong, or the key file cannot be read.
    """
    settings = load_settings(api_key_file=api_key_file)
    key = settings.load_api_key()
    scheme = "https" if settings.tls_cert_file else "http"
    return ServerAddress(
        url=url or f"{scheme}://{reachable_host(settings.host)}:{settings.port}",
        api_key=key.get_secret_value() if key else None,
    )


def reachable_host(host: str) -> str:
    """The host to connect to for a server bound to `host`, as it stands in a URL."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"
