"""Session and response settings as they stand on the wire.

`SessionConfig`, or `TranscriptionConfig`, is what `session.update` changes and what
`session.created` and `session.updated` show. It always shows what is *in effect*: known
fields that this server does not support are accepted and come back as null, a request for
audio output comes back as text. Unknown (misspelled) fields and values out of range are
refused by name, because the official client types let them through.

Source: OpenAI Realtime API reference, `openai.types.realtime` 3.54; extensions of ours are
marked so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from agent.audio.pcm import AudioFormat, Encoding
from agent.config import MAX_PREFIX_PADDING_MS, MAX_SILENCE_MS, MIN_SILENCE_MS
from agent.languages import LanguageCode
from agent.protocol.validation import validate

MAX_INSTRUCTIONS_CHARS = 100_000
MAX_TOOLS = 128

_G711_RATE_HZ = 8_000


def _known_but_unsupported(_: object) -> None:
    return None


Unsupported = Annotated[None, BeforeValidator(_known_but_unsupported)]
"""A field of the protocol that is accepted, has no effect here and is shown as null."""


class WireModel(BaseModel):
    """Base of everything a client may send inside an event."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputFormat(WireModel):
    """How the client's audio is coded.

    `rate` 16000 and 48000 beside 24000 for `audio/pcm` are an extension of ours.
    """

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: int | None = None

    @model_validator(mode="after")
    def _rate_fits_the_type(self) -> InputFormat:
        if self.type == "audio/pcm":
            if self.rate not in {None, 16_000, 24_000, 48_000}:
                raise ValueError("rate must be 16000, 24000 or 48000 for audio/pcm")
        elif self.rate not in {None, _G711_RATE_HZ}:
            raise ValueError(f"rate must be left out or {_G711_RATE_HZ} for {self.type}")
        return self

    def to_audio_format(self) -> AudioFormat:
        """The format as the audio path knows it."""
        if self.type == "audio/pcm":
            return AudioFormat(Encoding.PCM16, self.rate or 24_000)
        encoding = Encoding.PCMU if self.type == "audio/pcmu" else Encoding.PCMA
        return AudioFormat(encoding, _G711_RATE_HZ)

    def to_wire(self) -> dict[str, object]:
        """The format as `session.updated` shows it."""
        if self.type == "audio/pcm":
            return {"type": self.type, "rate": self.rate or 24_000}
        return {"type": self.type}


class ServerVad(WireModel):
    """Turns end after a fixed silence."""

    type: Literal["server_vad"] = "server_vad"
    threshold: float = Field(0.5, gt=0.0, lt=1.0)
    prefix_padding_ms: int = Field(300, ge=0, le=MAX_PREFIX_PADDING_MS)
    silence_duration_ms: int = Field(500, ge=MIN_SILENCE_MS, le=MAX_SILENCE_MS)
    idle_timeout_ms: int | None = Field(None, ge=5_000, le=30_000)
    create_response: bool = True
    interrupt_response: bool = True


class SemanticVad(WireModel):
    """Turns end when the speaker seems to be done; `eagerness` bounds the wait."""

    type: Literal["semantic_vad"] = "semantic_vad"
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class Transcription(WireModel):
    """Ask for a transcript of every spoken item; any model name is accepted.

    `language` may be a name, as an extension of ours; it is shown as its BCP-47 code.
    """

    model: str | None = Field(None, max_length=200)
    language: LanguageCode | None = None
    prompt: Unsupported = None
    delay: Unsupported = None
    keywords: Unsupported = None
    languages: Unsupported = None


class AudioInput(WireModel):
    """What the client sends and how turns are found in it."""

    format: InputFormat = InputFormat()
    noise_reduction: Unsupported = None
    transcription: Transcription | None = None
    turn_detection: TurnDetection | None = ServerVad()


class Audio(WireModel):
    """The audio half of a session; there is no audio output."""

    input: AudioInput = AudioInput()
    output: Unsupported = None


def _text_only(value: object) -> object:
    """A client that asks for audio gets text and is told so, not an error."""
    known = ("text", "audio")
    # A tuple: what is sent may be of any type, and sets take only what can be hashed.
    if isinstance(value, list) and all(part in known for part in value):
        return ("text",)
    return value


OutputModalities = Annotated[tuple[Literal["text"], ...], BeforeValidator(_text_only)]
MaxOutputTokens = Annotated[int, Field(ge=1, le=32_768)] | Literal["inf"]


def _is_function(tool: dict[str, Any]) -> dict[str, Any]:
    """Engines write calls of functions; what a tool has beside its name and so on is theirs."""
    if tool.get("type", "function") != "function":
        raise ValueError("only tools of type 'function' can be called here")
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise ValueError(
            "a tool needs its name, a string beside its type: "
            '{"type": "function", "name": …, "description": …, "parameters": {…}}'
        )
    kinds: dict[str, type] = {"description": str, "parameters": dict}
    for field, kind in kinds.items():
        if tool.get(field) is not None and not isinstance(tool[field], kind):
            wanted = "a string" if kind is str else "a JSON schema, which is an object"
            raise ValueError(f"a tool's {field} must be {wanted}")
    return tool


Tool = Annotated[dict[str, Any], AfterValidator(_is_function)]
Tools = Annotated[tuple[Tool, ...], Field(max_length=MAX_TOOLS)]


class ChosenFunction(WireModel):
    """The one function that is to be called."""

    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=128)]


ToolChoice = Literal["none", "auto", "required"] | ChosenFunction
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]


class RetentionRatio(WireModel):
    """When a conversation gets too long, so much of the room is kept."""

    type: Literal["retention_ratio"]
    retention_ratio: float = Field(ge=0.0, le=1.0)
    token_limits: Unsupported = None


def _kind_of_truncation(value: object) -> str:
    return "word" if isinstance(value, str) else "ratio"


Truncation = Annotated[
    Annotated[Literal["auto", "disabled"], Tag("word")] | Annotated[RetentionRatio, Tag("ratio")],
    Discriminator(_kind_of_truncation),
]


class _Settings(WireModel):
    """What the settings of all session types have in common."""

    def updated(self, patch: Mapping[str, object]) -> Self:
        """These settings with `patch` applied: absent means unchanged, null means cleared.

        Raises:
            InvalidEvent: A field is unknown or out of range; nothing has changed.
        """
        merged = merge(self.model_dump(), patch)
        return validate(type(self), merged, "session")


class SessionConfig(_Settings):
    """All settings of a conversation session."""

    type: Literal["realtime"] = "realtime"
    model: str | None = Field(None, max_length=200)
    output_modalities: OutputModalities = ("text",)
    instructions: str = Field("", max_length=MAX_INSTRUCTIONS_CHARS)
    audio: Audio = Audio()
    tools: Tools = ()
    tool_choice: ToolChoice = "auto"
    max_output_tokens: MaxOutputTokens = "inf"
    truncation: Truncation = "auto"
    include: Unsupported = None
    parallel_tool_calls: Unsupported = None
    prompt: Unsupported = None
    reasoning: Unsupported = None
    tracing: Unsupported = None

    def to_wire(self) -> dict[str, Any]:
        """The settings as `session.created` and `session.updated` show them."""
        wire = self.model_dump(mode="json")
        wire["audio"]["input"]["format"] = self.audio.input.format.to_wire()
        return wire


def _null_is_default(value: object) -> object:
    return Transcription() if value is None else value


class TranscribedInput(AudioInput):
    """As `AudioInput`, of sessions that do nothing but transcribe."""

    transcription: Annotated[Transcription, BeforeValidator(_null_is_default)] = Transcription()


class TranscriptionAudio(WireModel):
    """The audio half of a transcription session."""

    input: TranscribedInput = TranscribedInput()


class TranscriptionConfig(_Settings):
    """All settings of a transcription session."""

    type: Literal["transcription"] = "transcription"
    audio: TranscriptionAudio = TranscriptionAudio()
    include: Unsupported = None

    def to_wire(self) -> dict[str, Any]:
        """The settings as `session.created` and `session.updated` show them."""
        wire = self.model_dump(mode="json")
        wire["audio"]["input"]["format"] = self.audio.input.format.to_wire()
        # There are no responses to create or to interrupt.
        for name in ("create_response", "interrupt_response", "idle_timeout_ms"):
            (wire["audio"]["input"]["turn_detection"] or {}).pop(name, None)
        return wire


AnyConfig = SessionConfig | TranscriptionConfig


class ResponseConfig(WireModel):
    """The `response` object of `response.create`.

    `input` is checked item by item by `agent.protocol.items`.
    """

    conversation: Literal["auto", "none"] | None = "auto"
    input: Annotated[list[dict[str, Any]], Field(max_length=1_000)] | None = None
    instructions: str | None = Field(None, max_length=MAX_INSTRUCTIONS_CHARS)
    max_output_tokens: MaxOutputTokens | None = None
    metadata: Metadata | None = None
    output_modalities: OutputModalities | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    audio: Unsupported = None
    parallel_tool_calls: Unsupported = None
    prompt: Unsupported = None
    reasoning: Unsupported = None


def merge(current: Mapping[str, Any], patch: Mapping[str, object]) -> dict[str, Any]:
    """Deep merge; an object of another `type` replaces the one that stands there."""
    merged = dict(current)
    for name, value in patch.items():
        old = merged.get(name)
        same_kind = (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and value.get("type", old.get("type")) == old.get("type")
        )
        if same_kind:
            assert isinstance(old, Mapping)
            assert isinstance(value, Mapping)
            merged[name] = merge(old, value)
        else:
            merged[name] = value
    return merged
