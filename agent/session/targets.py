"""Which languages a translation session can be asked for, and what it says when it cannot."""

from __future__ import annotations

from agent.errors import InvalidEvent, LocalError
from agent.languages import parse_language
from agent.protocol.translation import TranslationConfig
from agent.session.listening import SAMPLES_PER_MS, Turn


class NotTranslated(LocalError):
    """A segment that has no translation, and why."""

    def __init__(self, turn: Turn, code: str, message: str) -> None:
        start_ms, end_ms = (at // SAMPLES_PER_MS for at in (turn.start_sample, turn.end_sample))
        super().__init__(
            f"what was said from {start_ms} to {end_ms} ms could not be translated: {message}"
        )
        self.code = code


def first_config(targets: tuple[str, ...] | None) -> TranslationConfig:
    """The settings a session begins with, with a language that can be had (None: any can)."""
    config = TranslationConfig()
    if targets is None or config.audio.output.language in targets:
        return config
    return config.updated({"audio": {"output": {"language": targets[0]}}})


def check_target(language: str, targets: tuple[str, ...] | None) -> None:
    """Refuse a language that the server's model does not translate into.

    Raises:
        InvalidEvent: It says which there are, and what to do for others.
    """
    asked = parse_language(language)
    if targets is None or asked.primary in targets:
        return
    known = ", ".join(f"{parse_language(one).name} ({one})" for one in targets)
    raise InvalidEvent(
        f"this server's model translates into {known} only, not into {asked.name} ({asked.code}); "
        "a server with Gemma 4 translates into any language "
        "(scripts/serve --model google/gemma-4-E2B-it)",
        code="unsupported_language",
        param="session.audio.output.language",
    )
