"""Makes translation sessions."""

from __future__ import annotations

import time

from agent.gateway.services import Services, SessionQuery
from agent.session.outbox import NewId
from agent.session.translation import TranslationOptions, TranslationSession


def translation_session(
    session_id: str, services: Services, query: SessionQuery, new_id: NewId
) -> TranslationSession:
    """A translation session with the server's own settings.

    Args:
        session_id: Its name, on the wire and in logs.
        services: What all sessions share.
        query: What the client asked for in the URL.
        new_id: Makes unique ids.
    """
    settings, info = services.settings, services.engine.info
    return TranslationSession(
        TranslationOptions(
            session_id=session_id,
            model=info.model,
            language=settings.language,
            targets=info.translation_targets,
            vad=settings.vad,
            limits=settings.limits,
            expires_at=int(time.time() + settings.limits.max_session_s),
            extensions=query.extensions,
            while_spoken=info.translates_open,
        ),
        new_id,
    )
