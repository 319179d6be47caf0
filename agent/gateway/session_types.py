"""Makes sessions of each type with the server's own settings."""

from __future__ import annotations

import time
from collections.abc import Mapping

from agent.errors import InvalidEvent
from agent.gateway.services import Services, SessionQuery
from agent.protocol.config import AnyConfig, ServerVad, SessionConfig, TranscriptionConfig
from agent.session.base import DrivenSession
from agent.session.options import SessionOptions
from agent.session.outbox import NewId
from agent.session.session import Session
from agent.session.targets import first_config
from agent.session.translation import TranslationOptions, TranslationSession


def asking_for(
    services: Services, query: SessionQuery, session: Mapping[str, object]
) -> SessionQuery:
    """The query with settings that came before the session, which are checked here.

    Args:
        services: What all sessions share.
        query: What the client asked for so far.
        session: Settings, as in `session.update`.

    Raises:
        InvalidEvent: There is no such kind of session, or a setting is wrong.
    """
    if query.intent not in {None, "transcription"}:
        raise InvalidEvent(
            f"sessions of type {str(query.intent)[:60]!r} are not served; leave intent out for a "
            "conversation, or say intent=transcription",
            code="session_type_not_served",
            param="intent",
        )
    if query.translates:
        first_config(services.engine.info.translation_targets, (*query.settings, session))
        return query.with_settings(session, None)
    asked = session.get("type")
    if asked == "translation":
        raise InvalidEvent(
            "translation sessions have addresses of their own: /v1/realtime/translations, and "
            "/calls and /client_secrets below it",
            code="session_type_not_served",
            param="session.type",
        )
    kind = "transcription" if asked == "transcription" else query.intent
    config = TranscriptionConfig() if kind else SessionConfig()
    config.updated(session)
    return query.with_settings(session, kind)


def make_session(
    session_id: str, services: Services, query: SessionQuery, new_id: NewId
) -> DrivenSession:
    """A session of the type that is asked for, with the server's own settings.

    Args:
        session_id: Its name, on the wire and in logs.
        services: What all sessions share.
        query: What the client asked for in the URL.
        new_id: Makes unique ids.
    """
    settings, info = services.settings, services.engine.info
    expires_at = int(time.time() + settings.limits.max_session_s)
    if query.translates:
        return TranslationSession(
            TranslationOptions(
                session_id=session_id,
                model=info.model,
                language=settings.language,
                targets=info.translation_targets,
                vad=settings.vad,
                limits=settings.limits,
                expires_at=expires_at,
                extensions=query.extensions,
                while_spoken=info.translates_open,
                settings=query.settings,
            ),
            new_id,
        )
    return Session(
        _first_config(services, query),
        SessionOptions(
            session_id=session_id,
            model=info.model,
            language=settings.language,
            vad=settings.vad,
            turns=settings.turns,
            limits=settings.limits,
            expires_at=expires_at,
            extensions=query.extensions,
            interruption=settings.interruption,
            answers_early=settings.early.work == "answers",
            hears_words=info.words_at_pauses and settings.early.work != "none",
            languages=info.languages,
        ),
        new_id,
    )


def _first_config(services: Services, query: SessionQuery) -> AnyConfig:
    """The settings a session begins with: the server's own, of the type asked for."""
    settings = services.settings
    vad = settings.vad
    detection = ServerVad(
        threshold=vad.threshold,
        prefix_padding_ms=vad.prefix_padding_ms,
        silence_duration_ms=vad.silence_duration_ms,
    )
    audio = {"input": {"turn_detection": detection}}
    config: AnyConfig
    if query.intent == "transcription":
        config = TranscriptionConfig.model_validate({"audio": audio})
    else:
        made = {"audio": audio, "instructions": settings.instructions}
        config = SessionConfig.model_validate(made)
    for wanted in query.settings:
        config = config.updated(wanted)
    return config
