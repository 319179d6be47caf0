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

import difflib
from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from agent.audio.pcm import AudioFormat, Encoding
from agent.errors import InvalidEvent
from agent.languages import LanguageCode

MAX_INSTRUCTIONS_CHARS = 100_000
MAX_TOOLS = 128

_G711_RATE_HZ = 8_000
# Some of pydantic's messages repeat what was sent.
_MAX_MESSAGE_CHARS = 500


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
    prefix_padding_ms: int = Field(300, ge=0, le=5_000)
    silence_duration_ms: int = Field(500, ge=100, le=10_000)
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
    known = {"text", "audio"}
    if isinstance(value, list) and value and all(part in known for part in value):
        return ("text",)
    return value


OutputModalities = Annotated[tuple[Literal["text"], ...], BeforeValidator(_text_only)]
MaxOutputTokens = Annotated[int, Field(ge=1, le=32_768)] | Literal["inf"]
Tools = Annotated[tuple[dict[str, Any], ...], Field(max_length=MAX_TOOLS)]
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
    tool_choice: str | dict[str, Any] = "auto"
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
    tool_choice: str | dict[str, Any] | None = None
    audio: Unsupported = None
    parallel_tool_calls: Unsupported = None
    prompt: Unsupported = None
    reasoning: Unsupported = None


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], value: object, path: str) -> Model:
    """Validate what a client sent.

    Args:
        model: The pydantic model it must fit.
        value: What was sent.
        path: Where it stands in the event, to name the field at fault.

    Raises:
        InvalidEvent: With the dotted path of the first field at fault in `param`.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        location = _public_location(problem["loc"])
        param = ".".join([*([path] if path else []), *location])
        raise InvalidEvent(
            _sentence(problem, location, model, path),
            code="unknown_parameter" if problem["type"] == "extra_forbidden" else "invalid_value",
            param=param or None,
        ) from error


def _public_location(location: tuple[int | str, ...]) -> list[str]:
    """The path as a client knows it: without the names of union members."""
    members = {"server_vad", "semantic_vad", "int", "str", "constrained-int", "word", "ratio"}
    return [
        str(part)
        for part in location
        if part not in members and not str(part).startswith(("literal[", "dict[", "function-"))
    ]


def _sentence(problem: Any, location: list[str], model: type[BaseModel], path: str) -> str:
    if problem["type"] == "extra_forbidden":
        places = _field_places(model, path)
        close = difflib.get_close_matches(location[-1], places, n=1)
        hint = f"; did you mean {places[close[0]]!r}?" if close else ""
        return f"unknown field {location[-1]!r}{hint}"
    message: str = problem["msg"].removeprefix("Value error, ")[:_MAX_MESSAGE_CHARS]
    given = problem.get("input")
    short = isinstance(given, bool | int | float) or (isinstance(given, str) and len(given) <= 40)
    if short and repr(given) not in message:
        return f"{message} (got {given!r})"
    return message


def _field_places(model: type[BaseModel], path: str) -> dict[str, str]:
    """The dotted path of every field of a model and of the models inside it, by its name.

    Of fields of the same name the one that lies least deep counts.
    """
    places: dict[str, str] = {}
    waiting: deque[tuple[object, str]] = deque([(model, path)])
    while waiting:
        annotation, at = waiting.popleft()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, field in annotation.model_fields.items():
                place = f"{at}.{name}" if at else name
                places.setdefault(name, place)
                waiting.append((field.annotation, place))
        else:
            waiting.extend((part, at) for part in get_args(annotation))
    return places


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
