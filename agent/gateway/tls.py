"""TLS of the server's own, for machines that have no reverse proxy: a phone on the same network.

Browsers give a page the microphone only on `localhost` or over https.
"""

from __future__ import annotations

import ssl

from agent.config import Settings
from agent.errors import ConfigError


def load_tls(settings: Settings) -> ssl.SSLContext | None:
    """What connections are encrypted with, or None where they are not.

    Raises:
        ConfigError: One of the two files is not named, cannot be read, or does not fit the other.
    """
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "tls_cert_file" if certificate is None else "tls_key_file"
        raise ConfigError(f"{missing}: TLS needs a certificate and its key; name both files")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"tls_cert_file, tls_key_file: {certificate} and {key} cannot be used: {_reason(error)}"
        ) from error
    return context


def _no_password() -> str:
    """Instead of OpenSSL's question on the terminal."""
    raise ValueError("the key wants a password; give one without (openssl: -noenc)")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key is not the certificate's"
        return "one of them is no PEM file of its kind, or the key wants a password"
    return str(error)
