"""What a session's settings mean: changed, shown on the wire, and for the engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from agent.errors import InvalidEvent
from agent.languages import parse_language
from agent.protocol import server_events
from agent.protocol.client_events import ClientEvent, ItemCreate, ItemTruncate, ResponseCreate
from agent.protocol.config import AnyConfig, SessionConfig, TranscriptionConfig
from agent.session.commands import Configure
from agent.session.options import SessionOptions

TRANSCRIBED_ITEMS_KEPT = 16
"""In a transcription session, which goes on for hours; nothing refers to older items."""


def updated(
    config: AnyConfig,
    patch: Mapping[str, object],
    options: SessionOptions,
    *,
    is_new: bool,
) -> AnyConfig:
    """The settings with a `session.update` applied.

    A client that did not say so in the URL makes its session one of type `transcription` with
    its first update.

    Args:
        config: Before.
        patch: The event's `session`.
        options: What the session was made with.
        is_new: Whether nothing was said in the session yet.

    Raises:
        InvalidEvent: A field is unknown or out of range, or the type is fixed by now.
    """
    new = _updated(config, patch, is_new=is_new)
    _check_language(new, options.languages)
    return new


def _updated(config: AnyConfig, patch: Mapping[str, object], *, is_new: bool) -> AnyConfig:
    kind = patch.get("type", config.type)
    if kind == config.type:
        return config.updated(patch)
    # A tuple: what is sent may be of any type, and sets take only what can be hashed.
    if kind not in ("realtime", "transcription"):
        raise InvalidEvent(
            "must be 'realtime' or 'transcription'; translation sessions have an address of their "
            "own, /v1/realtime/translations",
            code="invalid_value",
            param="session.type",
        )
    if isinstance(config, TranscriptionConfig) or not is_new:
        raise InvalidEvent(
            f"this session is of type {config.type!r} and stays so; connect again for another",
            code="invalid_value",
            param="session.type",
        )
    known = {"audio": {"input": config.audio.input.model_dump()}}
    return TranscriptionConfig().updated(known).updated(patch)


def _check_language(config: AnyConfig, languages: Collection[str] | None) -> None:
    transcription = config.audio.input.transcription
    if languages is None or transcription is None or transcription.language is None:
        return
    language = parse_language(transcription.language)
    if language.primary not in languages:
        raise InvalidEvent(
            f"this server's model does not understand {language.name} ({language.code}); leave "
            "the language out or choose another model",
            param="session.audio.input.transcription.language",
        )


def check_type_allows(config: AnyConfig, event: ClientEvent) -> None:
    """Refuse what only conversations have.

    Raises:
        InvalidEvent: The session is none.
    """
    if isinstance(config, TranscriptionConfig) and isinstance(
        event, ItemCreate | ItemTruncate | ResponseCreate
    ):
        raise InvalidEvent(
            f"{event.type} is for conversations, and this session only transcribes; connect "
            "without intent=transcription",
            code="not_in_transcription_sessions",
            param="type",
        )


def creates_responses(config: AnyConfig) -> bool:
    """Whether a turn that was detected is answered."""
    detection = config.audio.input.turn_detection
    return isinstance(config, SessionConfig) and detection is not None and detection.create_response


def shows_captions(config: AnyConfig, extensions: Collection[str]) -> bool:
    """Whether words are sent while they are spoken.

    Clients of a conversation look for an item when its words come, so there they must have
    asked for it.
    """
    if config.audio.input.transcription is None:
        return False
    return isinstance(config, TranscriptionConfig) or "captions" in extensions


def wire_settings(
    config: AnyConfig, session_id: str, model: str, expires_at: int
) -> server_events.Wire:
    """The session as `session.created` and `session.updated` show it.

    Args:
        config: Its settings.
        session_id: Its name.
        model: The model that answers, whatever the client asked for.
        expires_at: Unix time at which it ends.
    """
    transcribes = isinstance(config, TranscriptionConfig)
    return {
        "object": "realtime.transcription_session" if transcribes else "realtime.session",
        "id": session_id,
        **config.to_wire(),
        **({} if transcribes else {"model": model}),
        "expires_at": expires_at,
    }


def engine_settings(config: AnyConfig, language: str | None) -> Configure:
    """What the engine's conversation is configured with.

    Args:
        config: The session's settings.
        language: Of the speech when the client names none, or None.
    """
    transcription = config.audio.input.transcription
    spoken = (transcription.language if transcription is not None else None) or language
    if not isinstance(config, SessionConfig):
        return Configure(instructions="", tools=(), language=spoken)
    truncation = config.truncation
    return Configure(
        instructions=config.instructions,
        tools=() if config.tool_choice == "none" else config.tools,
        language=spoken,
        truncation=truncation if isinstance(truncation, str) else truncation.retention_ratio,
    )
