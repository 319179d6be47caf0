"""The exception tree. Local errors are ours, remote errors are the client's.

A `RemoteError` becomes an `error` event (or an HTTP 4xx) and the session goes on.
A `LocalError` is a fault on our side of the wire: it is logged, and the piece of work
that met it fails with a clear status.

    VoiceAgentError
    ├── RemoteError            what the client sent cannot be accepted
    │   ├── InvalidEvent       one event is wrong: names the field and what would be right
    │   ├── LimitExceeded      a limit of this server was met
    │   └── NotAuthorized      missing or wrong key, refused origin or host
    └── LocalError             our side
        ├── ConfigError        a setting is wrong or does not fit another
        ├── ModelStoreError    a model file is missing, corrupt or cannot be fetched
        ├── ConnectionFailed   a client cannot reach its server, lost it or waited in vain
        └── EngineError        the engine could not do the work
            ├── EngineUnavailable   it is starting, restarting, or has gone
            │   └── EngineFailed    it has crashed again and again
            ├── EngineBusy          no place for another conversation or branch
            ├── ContextOverflow     the prompt does not fit
            ├── ClipTooLong         a clip of 30 s or more would have been made
            ├── TemplateFailed      the checkpoint's chat template cannot write this prompt
            └── Unsupported         this engine cannot do that (images, a language, …)
"""

from __future__ import annotations


class VoiceAgentError(Exception):
    """Base of everything this package raises on purpose."""


class RemoteError(VoiceAgentError):
    """The client's mistake, or a limit it met.

    Attributes:
        message: One sentence that says what would be right.
        code: A stable machine-readable word, as in the Realtime protocol.
        param: The field at fault, as a dotted path, or None.
    """

    type = "invalid_request_error"
    default_code = "invalid_request"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param

    def __str__(self) -> str:
        return f"{self.param}: {self.message}" if self.param else self.message


class InvalidEvent(RemoteError):
    """One client event is malformed or impossible now."""

    default_code = "invalid_value"


class LimitExceeded(RemoteError):
    """A limit of this server was met: size, number or time."""

    default_code = "limit_exceeded"


class NotAuthorized(RemoteError):
    """Missing or wrong key, or an origin or host that is not allowed."""

    type = "authentication_error"
    default_code = "invalid_api_key"


class LocalError(VoiceAgentError):
    """A fault on our side of the wire."""

    code = "server_error"


class ConfigError(LocalError):
    """A setting is wrong, or does not fit another; the message names it."""

    code = "config_error"


class ModelStoreError(LocalError):
    """A model file is missing, corrupt or cannot be fetched; the message says what to do."""

    code = "model_error"


class ConnectionFailed(LocalError):
    """A client cannot reach its server, lost it or waited in vain; it says what to do.

    Attributes:
        close_code: The WebSocket close code when an open connection ended, else None.
    """

    code = "connection_failed"

    def __init__(self, message: str, *, close_code: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code


class EngineError(LocalError):
    """The engine could not do what it was asked."""

    code = "engine_error"


class EngineUnavailable(EngineError):
    """The engine is starting, restarting, or has gone."""

    code = "engine_unavailable"


class EngineFailed(EngineUnavailable):
    """The engine has crashed again and again; the log says why."""

    code = "engine_failed"


class EngineBusy(EngineError):
    """No place for another conversation or branch."""

    code = "engine_busy"


class ContextOverflow(EngineError):
    """The prompt does not fit into the model's context."""

    code = "context_length_exceeded"


class ClipTooLong(EngineError):
    """A clip of 30 s or more was about to be made; the model would cut it silently."""

    code = "clip_too_long"


class TemplateFailed(EngineError):
    """The checkpoint's own chat template raised, or left out what it was given."""

    code = "chat_template_failed"


class Unsupported(EngineError):
    """This engine cannot do that: images, a language, a kind of branch."""

    code = "unsupported"
