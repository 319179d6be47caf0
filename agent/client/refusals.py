"""What a refused or lost connection means, in words that say what to do next."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Response

from agent.errors import (
    ConnectionFailed,
    EngineFailed,
    EngineUnavailable,
    InvalidEvent,
    LimitExceeded,
    NotAuthorized,
    VoiceAgentError,
)

# Close codes of RFC 6455 (section 7.4.1) and of IANA's registry.
_GOING_AWAY = 1001
_POLICY = 1008
_TRY_AGAIN_LATER = 1013
_UNAUTHORIZED = 3000


@contextmanager
def opening_errors(url: str, timeout_s: float) -> Iterator[None]:
    """Turn what goes wrong while a session is opened into this package's errors."""
    try:
        yield
    except TimeoutError as error:
        raise ConnectionFailed(
            f"No answer from {url} within {timeout_s:g} s. Is this a voice-agent server, and "
            "is it done starting?"
        ) from error
    except InvalidStatus as refused:
        raise explain_refusal(refused.response, url) from refused
    except InvalidHandshake as error:
        raise ConnectionFailed(f"{url} does not speak WebSocket: {error}.") from error
    except ConnectionRefusedError as error:
        raise ConnectionFailed(
            f"Nothing listens at {url}. Is the server running? Start it with scripts/serve "
            "or `voice-agent serve`."
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise ConnectionFailed(
            f"{url} shows a certificate that is not trusted here ({error.verify_message}). If it "
            "is your own, name its file: SSL_CERT_FILE=cert.pem"
        ) from error
    except OSError as error:
        raise ConnectionFailed(f"Cannot connect to {url}: {error}.") from error


def explain_refusal(response: Response, url: str) -> VoiceAgentError:
    """The error for an HTTP answer that is no WebSocket."""
    status = response.status_code
    message, code = _error_body(response.body)
    if status == 401:
        # The server's own words are about headers, which are not what to care about here.
        known = "The server does not know this API key."
        wanted = "The server wants an API key (`api_key`, or --api-key-file on the command line)."
        return NotAuthorized(wanted if code == "missing_api_key" else known, code=code)
    if status == 403:
        return NotAuthorized(message or "The server refuses connections from here.", code=code)
    if status == 503 and code is not None and code.startswith("engine"):
        kind = EngineFailed if code == EngineFailed.code else EngineUnavailable
        return kind(message or "The server's model is not ready; try again soon.")
    if status in {429, 503}:
        return LimitExceeded(
            message or "The server has no room for another session; try again later.", code=code
        )
    if status == 404:
        return ConnectionFailed(f"There is no realtime endpoint at {url}; check the path.")
    return ConnectionFailed(message or f"{url} answered with HTTP {status}.")


def explain_close(closed: ConnectionClosed) -> VoiceAgentError:
    """The error for a session that ended without the client closing it."""
    if closed.rcvd is None:
        return ConnectionFailed(
            "The connection to the server was lost; connect again to go on.", close_code=1006
        )
    code, reason = closed.rcvd.code, closed.rcvd.reason
    said = f": {reason}" if reason else ""
    if code == _UNAUTHORIZED:
        return NotAuthorized(reason or "The server wants an API key.")
    if code == _TRY_AGAIN_LATER:
        return LimitExceeded(reason or "The server is too busy; try again later.")
    if code == _POLICY:
        return ConnectionFailed(f"The server ended the session{said}.", close_code=code)
    if code == _GOING_AWAY:
        return ConnectionFailed(f"The server is shutting down{said}.", close_code=code)
    return ConnectionFailed(f"The server closed the session ({code}){said}.", close_code=code)


def explain_error_event(event: Mapping[str, Any]) -> InvalidEvent:
    """The error for an `error` event that the caller cannot go on after."""
    error = event["error"]
    param = error.get("param")
    # Our server's messages begin with the field, as the exception's text will.
    message = error["message"].removeprefix(f"{param}: ")
    return InvalidEvent(message, code=error.get("code"), param=param)


def _error_body(body: bytes | None) -> tuple[str | None, str | None]:
    """Message and code of a JSON error body; None where there is none."""
    try:
        error = json.loads(body or b"")["error"]
        return error["message"], error.get("code")
    except (ValueError, KeyError, TypeError):
        return None, None
