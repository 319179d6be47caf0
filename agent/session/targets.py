"""Which languages a translation session can be asked for, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.audio.pcm import SAMPLES_PER_MS
from agent.errors import InvalidEvent, LocalError
from agent.languages import parse_language
from agent.protocol.translation import TranslationConfig
from agent.session.listening import Turn


class NotTranslated(LocalError):
    """A segment that has no translation, and why."""

    def __init__(self, turn: Turn, code: str, message: str) -> None:
        start_ms, end_ms = (at // SAMPLES_PER_MS for at in (turn.start_sample, turn.end_sample))
        super().__init__(
            f"what was said from {start_ms} to {end_ms} ms could not be translated: {message}"
        )
        self.code = code


def first_config(
    targets: tuple[str, ...] | None, settings: Iterable[Mapping[str, object]] = ()
) -> TranslationConfig:
    """The settings a session begins with.

    Args:
        targets: Codes of the languages that can be had; None for any.
        settings: What was asked for before it began, each as in `session.update`.

    Raises:
        InvalidEvent: A setting is wrong, or the language cannot be had.
    """
    config = TranslationConfig()
    if targets is not None and config.audio.output.language not in targets:
        config = config.updated({"audio": {"output": {"language": targets[0]}}})
    for wanted in settings:
        config = config.updated(wanted)
        check_target(config.audio.output.language, targets)
    return config


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
