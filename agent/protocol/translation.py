"""Settings of a translation session as they stand on the wire.

Source: OpenAI Realtime API reference, `openai.types.realtime` 3.54
(`RealtimeTranslationSession`); `audio.input.transcription.language` is an extension of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from agent.audio.pcm import AudioFormat, Encoding
from agent.languages import LanguageCode
from agent.protocol.config import Transcription, Unsupported, WireModel, merge
from agent.protocol.validation import validate

INPUT_FORMAT = AudioFormat(Encoding.PCM16, 24_000)
"""The one format of translation sessions."""


class TranslationInput(WireModel):
    """What comes in; with `transcription` the words that were said are sent too."""

    noise_reduction: Unsupported = None
    transcription: Transcription | None = None


class TranslationOutput(WireModel):
    """What is wanted: a BCP-47 code or an English name, shown as the code."""

    language: LanguageCode = "en"


class TranslationAudio(WireModel):
    """Both sides of a translation session."""

    input: TranslationInput = TranslationInput()
    output: TranslationOutput = TranslationOutput()


class TranslationConfig(WireModel):
    """All settings of a translation session."""

    type: Literal["translation"] = "translation"
    model: str | None = Field(None, max_length=200)
    audio: TranslationAudio = TranslationAudio()

    def updated(self, patch: Mapping[str, object]) -> TranslationConfig:
        """These settings with `patch` applied: absent means unchanged, null means cleared.

        Raises:
            InvalidEvent: A field is unknown or out of range; nothing has changed.
        """
        return validate(TranslationConfig, merge(self.model_dump(), patch), "session")

    def to_wire(self, model: str) -> dict[str, Any]:
        """The settings as `session.created` and `session.updated` show them.

        Args:
            model: The server's model, whatever the client asked for.
        """
        transcription = self.audio.input.transcription
        shown = None
        if transcription is not None:
            shown = {"model": transcription.model or model, "language": transcription.language}
        return {
            "type": self.type,
            "model": model,
            "audio": {
                "input": {"noise_reduction": None, "transcription": shown},
                "output": {"language": self.audio.output.language},
            },
        }
