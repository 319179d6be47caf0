"""What a session is made with beside its settings on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.config import InterruptionSettings, Limits, TurnSettings, VadSettings


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """See the module.

    Attributes:
        session_id: Its name, also in logs.
        model: The model's name as it is shown, whatever the client asked for.
        language: Language of the speech when the client names none; None to detect it.
        vad: How speech is found, where the client says nothing else.
        limits: What a client may do.
        expires_at: Unix time at which the longest session ends, for `session.created`.
        extensions: Extensions that the client switched on.
        turns: How pauses are judged for `semantic_vad`.
        interruption: What speech over an answer does.
        answers_early: Whether answers are begun at pauses.
        hears_words: Whether the engine recognises at a pause what was said.
        languages: Codes of the languages that are understood; None for any.
    """

    session_id: str
    model: str
    language: str | None
    vad: VadSettings
    limits: Limits
    expires_at: int
    extensions: frozenset[str] = frozenset()
    turns: TurnSettings = field(default_factory=TurnSettings)
    interruption: InterruptionSettings = field(default_factory=InterruptionSettings)
    answers_early: bool = True
    hears_words: bool = False
    languages: tuple[str, ...] | None = None
