"""Conversation items as they stand on the wire, and how a client's are checked.

Source: OpenAI Realtime API reference, `conversation.item.create`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agent.errors import InvalidEvent
from agent.protocol.client_events import ItemId
from agent.protocol.config import Unsupported, WireModel
from agent.protocol.validation import validate

MAX_PARTS = 64

_Object = Literal["realtime.item"] | None
_Status = Literal["completed", "incomplete", "in_progress"] | None


class WirePart(WireModel):
    """One part of a message's content; which fields count depends on `type`."""

    type: Literal["input_text", "input_audio", "input_image", "output_text", "output_audio", "text"]
    text: str | None = None
    audio: str | None = None
    transcript: str | None = None
    image_url: str | None = None
    detail: Unsupported = None


class WireMessage(WireModel):
    """A message of the system, the user or the assistant."""

    type: Literal["message"]
    role: Literal["system", "user", "assistant"]
    content: Annotated[list[WirePart], Field(max_length=MAX_PARTS)]
    id: ItemId | None = None
    object: _Object = None
    status: _Status = None


class WireFunctionCall(WireModel):
    """The assistant called a tool."""

    type: Literal["function_call"]
    name: Annotated[str, Field(min_length=1, max_length=128)]
    arguments: str
    call_id: ItemId | None = None
    id: ItemId | None = None
    object: _Object = None
    status: _Status = None


class WireFunctionOutput(WireModel):
    """What a tool answered."""

    type: Literal["function_call_output"]
    call_id: ItemId
    output: str
    id: ItemId | None = None
    object: _Object = None
    status: _Status = None


class WireReference(WireModel):
    """Names an item of the conversation; only in a response's `input`."""

    type: Literal["item_reference"]
    id: ItemId


WireItem = WireMessage | WireFunctionCall | WireFunctionOutput

_ITEM_MODELS: dict[str, type[WireItem]] = {
    "message": WireMessage,
    "function_call": WireFunctionCall,
    "function_call_output": WireFunctionOutput,
}

# Which parts each role's message may have; `text` and `output_audio` are older or spoken
# spellings that real clients replay from their own history.
_PARTS_OF_ROLE = {
    "system": {"input_text", "text"},
    "user": {"input_text", "text", "input_audio", "input_image"},
    "assistant": {"output_text", "text", "output_audio"},
}


def parse_item(raw: dict[str, Any], path: str = "item") -> WireItem:
    """Check one item that a client created.

    Raises:
        InvalidEvent: `param` is the dotted path of the field at fault.
    """
    kind = raw.get("type")
    model = _ITEM_MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise InvalidEvent(
            f"item type must be one of {', '.join(_ITEM_MODELS)}", param=f"{path}.type"
        )
    item = validate(model, raw, path)
    if isinstance(item, WireMessage):
        _check_parts(item, path)
    return item


def parse_input(raw: dict[str, Any], path: str) -> WireItem | WireReference:
    """Check one entry of a response's own `input`: an item or a reference to one.

    Raises:
        InvalidEvent: `param` is the dotted path of the field at fault.
    """
    if raw.get("type") == "item_reference":
        return validate(WireReference, raw, path)
    return parse_item(raw, path)


def _check_parts(message: WireMessage, path: str) -> None:
    allowed = _PARTS_OF_ROLE[message.role]
    for index, part in enumerate(message.content):
        where = f"{path}.content.{index}"
        if part.type not in allowed:
            raise InvalidEvent(
                f"a {message.role} message cannot have a part of type {part.type!r}; "
                f"it may have {', '.join(sorted(allowed))}",
                param=f"{where}.type",
            )
        if part.type in {"input_text", "output_text", "text"} and part.text is None:
            raise InvalidEvent("this part needs its text", param=f"{where}.text")
        if part.type == "input_audio" and part.audio is None and part.transcript is None:
            raise InvalidEvent("this part needs audio, or a transcript", param=f"{where}.audio")
        if part.type == "output_audio" and part.transcript is None:
            raise InvalidEvent("this part needs a transcript", param=f"{where}.transcript")
