"""What a client may send: parsed and validated, one frozen model per event type.

`parse` turns the text of one WebSocket or data-channel message into one of these, or
raises `InvalidEvent` that names the field and says what would be right.

Source: OpenAI Realtime API reference, client events; `text_end` is an extension of ours.
"""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from agent.errors import InvalidEvent
from agent.protocol.config import ResponseConfig, WireModel
from agent.protocol.json_objects import load_object
from agent.protocol.validation import validate

ItemId = Annotated[str, Field(min_length=1, max_length=128)]
MAX_EVENT_ID_CHARS = 512
EventId = Annotated[str, Field(max_length=MAX_EVENT_ID_CHARS)]


class _ClientEvent(WireModel):
    event_id: EventId | None = None


class SessionUpdate(_ClientEvent):
    """Change settings; `session` is merged into them by `SessionConfig.updated`."""

    type: Literal["session.update"]
    session: dict[str, Any]


class InputAudioAppend(_ClientEvent):
    """More audio in the session's input format; translation sessions have a name of their own."""

    type: Literal["input_audio_buffer.append", "session.input_audio_buffer.append"]
    audio: str

    def decode(self) -> bytes:
        """The audio as raw bytes.

        Raises:
            InvalidEvent: It is not base64.
        """
        return decode_base64(self.audio, "audio")


class InputAudioCommit(_ClientEvent):
    """The client says that its turn is over."""

    type: Literal["input_audio_buffer.commit"]


class InputAudioClear(_ClientEvent):
    """Forget the audio that is not committed."""

    type: Literal["input_audio_buffer.clear"]


class OutputAudioClear(_ClientEvent):
    """Nothing to do for a server that sends text; accepted without an answer."""

    type: Literal["output_audio_buffer.clear"]


class ItemCreate(_ClientEvent):
    """Add an item; `item` is checked by `agent.protocol.items`."""

    type: Literal["conversation.item.create"]
    item: dict[str, Any]
    previous_item_id: ItemId | None = None


class ItemDelete(_ClientEvent):
    """Remove an item."""

    type: Literal["conversation.item.delete"]
    item_id: ItemId


class ItemRetrieve(_ClientEvent):
    """Ask for an item as the server holds it."""

    type: Literal["conversation.item.retrieve"]
    item_id: ItemId


class ItemTruncate(_ClientEvent):
    """Cut an assistant item to what the user got to know of it.

    `text_end` counts characters and is our extension; the standard event only has
    `audio_end_ms`, which means nothing for text.
    """

    type: Literal["conversation.item.truncate"]
    item_id: ItemId
    content_index: int = Field(0, ge=0, le=0)
    audio_end_ms: int | None = Field(None, ge=0)
    text_end: int | None = Field(None, ge=0)


class ResponseCreate(_ClientEvent):
    """Ask for an answer."""

    type: Literal["response.create"]
    response: ResponseConfig = ResponseConfig()

    @field_validator("response", mode="before")
    @classmethod
    def _null_is_empty(cls, value: object) -> object:
        return {} if value is None else value


class ResponseCancel(_ClientEvent):
    """Stop an answer; without an id, the one of the conversation."""

    type: Literal["response.cancel"]
    response_id: ItemId | None = None


class SessionClose(_ClientEvent):
    """A translation session is to end once all that was said is translated."""

    type: Literal["session.close"]


ClientEvent = (
    SessionUpdate
    | InputAudioAppend
    | InputAudioCommit
    | InputAudioClear
    | OutputAudioClear
    | ItemCreate
    | ItemDelete
    | ItemRetrieve
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel
    | SessionClose
)

EventModels = Mapping[str, type[ClientEvent]]
"""The events that sessions of one kind know, by their type."""

CONVERSATION_EVENTS: EventModels = {
    "session.update": SessionUpdate,
    "input_audio_buffer.append": InputAudioAppend,
    "input_audio_buffer.commit": InputAudioCommit,
    "input_audio_buffer.clear": InputAudioClear,
    "output_audio_buffer.clear": OutputAudioClear,
    "conversation.item.create": ItemCreate,
    "conversation.item.delete": ItemDelete,
    "conversation.item.retrieve": ItemRetrieve,
    "conversation.item.truncate": ItemTruncate,
    "response.create": ResponseCreate,
    "response.cancel": ResponseCancel,
}

TRANSLATION_EVENTS: EventModels = {
    "session.update": SessionUpdate,
    "session.input_audio_buffer.append": InputAudioAppend,
    "session.close": SessionClose,
}


class RefusedEvent(InvalidEvent):
    """An event that could not be parsed, with its `event_id` where it had a usable one."""

    def __init__(self, cause: InvalidEvent, event_id: str | None) -> None:
        super().__init__(cause.message, code=cause.code, param=cause.param)
        self.event_id = event_id


def parse(text: str, models: EventModels = CONVERSATION_EVENTS) -> ClientEvent:
    """One message from a client as an event.

    Args:
        text: The message.
        models: The events that may come.

    Raises:
        RefusedEvent: Not JSON, not an event that exists, or a field is wrong.
    """
    event_id: str | None = None
    try:
        raw = load_object(text, "the event")
        given = raw.get("event_id")
        event_id = given if isinstance(given, str) and len(given) <= MAX_EVENT_ID_CHARS else None
        return validate(_model_for(raw, models), raw, "")
    except InvalidEvent as error:
        raise RefusedEvent(error, event_id) from error


def decode_base64(text: str, param: str) -> bytes:
    """Strictly decode base64.

    Raises:
        InvalidEvent: It is not base64; `param` names the field.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidEvent(
            f"not valid base64 ({error}); send the raw audio bytes in standard base64 with padding",
            param=param,
        ) from error


def _model_for(raw: dict[str, Any], models: EventModels) -> type[ClientEvent]:
    kind = raw.get("type")
    if not isinstance(kind, str):
        raise InvalidEvent(
            "every event needs a `type`, a string", code="missing_type", param="type"
        )
    model = models.get(kind)
    if model is None:
        close = difflib.get_close_matches(kind[:100], models, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(models)}"
        raise InvalidEvent(
            f"unknown event type {kind[:100]!r}{hint}", code="unknown_event", param="type"
        )
    return model
