"""Everything wrong that a client has been seen, or can be imagined, to send.

One table for the sans-I/O session and for the real server: each entry gives the raw
message and what the `error` event must name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bad:
    """One bad message.

    Attributes:
        name: What is wrong.
        message: As sent: text, or bytes for a binary message.
        param: What `error.param` must be.
        code: What `error.code` must be.
        says: A word that the message must contain.
    """

    name: str
    message: str | bytes
    param: str | None
    code: str
    says: str


def _event(**fields: Any) -> str:
    return json.dumps(fields)


def _update(**session: Any) -> str:
    return _event(type="session.update", session={"type": "realtime", **session})


def _detection(**fields: Any) -> str:
    detection = {"type": "server_vad", **fields}
    return _update(audio={"input": {"turn_detection": detection}})


def _item(**item: Any) -> str:
    return _event(type="conversation.item.create", item=item)


def _user(*content: Any) -> str:
    return _item(type="message", role="user", content=list(content))


_DETECTION = "session.audio.input.turn_detection"

BAD_MESSAGES = [
    # ---- no event at all
    Bad("not json", "hello", None, "invalid_json", "JSON"),
    Bad("empty", "", None, "invalid_json", "JSON"),
    Bad("half json", '{"type": "session.up', None, "invalid_json", "JSON"),
    Bad("a list", "[1, 2]", None, "invalid_json", "object"),
    Bad("deeply nested", "[" * 100_000, None, "invalid_json", "JSON"),
    Bad(
        "deeper than anybody needs",
        _update(tool_choice=json.loads('{"a":' * 300 + "1" + "}" * 300)),
        None,
        "too_complex",
        "deep",
    ),
    Bad(
        "very many values", _update(output_modalities=["x"] * 100_000), None, "too_complex", "more"
    ),
    Bad(
        "very many fields",
        _update(**{f"field_{number}": 1 for number in range(100_000)}),
        None,
        "too_complex",
        "more",
    ),
    Bad("a name without end", _update(**{"x" * 1_000_000: 1}), None, "too_complex", "longer"),
    Bad(
        "an event id without end",
        _event(type="response.create", event_id="x" * 1_000_000),
        "event_id",
        "invalid_value",
        "512",
    ),
    Bad(
        "a kind without end",
        _update(audio={"input": {"turn_detection": {"type": "x" * 1_000_000}}}),
        "session.audio.input.turn_detection",
        "invalid_value",
        "xxx",
    ),
    Bad(
        "half a character deep in a tool",
        _update(tools=[{"name": "lamp", "parameters": {"colours": ["\ud800"]}}]),
        None,
        "invalid_json",
        "surrogate",
    ),
    Bad(
        "half a character in a text",
        _user({"type": "input_text", "text": "\ude00"}),
        None,
        "invalid_json",
        "surrogate",
    ),
    Bad("NaN", '{"type": "session.update", "session": {"x": NaN}}', None, "invalid_json", "NaN"),
    Bad("no type", "{}", "type", "missing_type", "type"),
    Bad("type is a number", '{"type": 7}', "type", "missing_type", "string"),
    Bad("unknown event", _event(type="session.upgrade"), "type", "unknown_event", "session.update"),
    Bad("a server event", _event(type="response.done"), "type", "unknown_event", "unknown"),
    Bad(
        "translation's event",
        _event(type="session.input_audio_buffer.append", audio=""),
        "type",
        "unknown_event",
        "input_audio_buffer.append",
    ),
    # ---- wrong fields
    Bad(
        "event id is no string",
        _event(type="response.create", event_id=5),
        "event_id",
        "invalid_value",
        "string",
    ),
    Bad(
        "unknown field",
        _event(type="response.cancel", response="r"),
        "response",
        "unknown_parameter",
        "response_id",
    ),
    Bad(
        "unknown field with the name of a type",
        _event(type="response.cancel", int=1),
        "int",
        "unknown_parameter",
        "unknown field 'int'",
    ),
    Bad("no session", _event(type="session.update"), "session", "invalid_value", "required"),
    Bad(
        "session is a string",
        _event(type="session.update", session="x"),
        "session",
        "invalid_value",
        "dictionary",
    ),
    Bad(
        "another session type",
        _event(type="session.update", session={"type": "telepathy"}),
        "session.type",
        "invalid_value",
        "realtime",
    ),
    Bad(
        "a session type that is a list",
        _update(type=[]),
        "session.type",
        "invalid_value",
        "transcription",
    ),
    Bad(
        "translation where it is not",
        _update(type="translation"),
        "session.type",
        "invalid_value",
        "/v1/realtime/translations",
    ),
    Bad(
        "misspelled setting",
        _update(instructons="Hi"),
        "session.instructons",
        "unknown_parameter",
        "instructions",
    ),
    Bad(
        "misspelled inner setting",
        _detection(treshold=0.5),
        f"{_DETECTION}.treshold",
        "unknown_parameter",
        "threshold",
    ),
    Bad(
        "threshold too high",
        _detection(threshold=1.5),
        f"{_DETECTION}.threshold",
        "invalid_value",
        "less than 1",
    ),
    Bad(
        "threshold is text",
        _detection(threshold="loud"),
        f"{_DETECTION}.threshold",
        "invalid_value",
        "number",
    ),
    Bad(
        "threshold is huge",
        '{"type":"session.update","session":{"audio":{"input":'
        '{"turn_detection":{"type":"server_vad","threshold":1e999}}}}}',
        f"{_DETECTION}.threshold",
        "invalid_value",
        "finite",
    ),
    Bad(
        "a setting of the other kind of turn detection",
        _update(audio={"input": {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}}),
        f"{_DETECTION}.threshold",
        "unknown_parameter",
        "semantic_vad does not have it",
    ),
    Bad(
        "null for what cannot be null",
        _update(instructions=None),
        "session.instructions",
        "invalid_value",
        "null",
    ),
    Bad(
        "format as the beta protocol has it",
        _update(audio={"input": {"format": "pcm16"}}),
        "session.audio.input.format",
        "invalid_value",
        "JSON object",
    ),
    Bad(
        "negative silence",
        _detection(silence_duration_ms=-200),
        f"{_DETECTION}.silence_duration_ms",
        "invalid_value",
        "greater than",
    ),
    Bad(
        "silence in fractions",
        _detection(silence_duration_ms=200.5),
        f"{_DETECTION}.silence_duration_ms",
        "invalid_value",
        "integer",
    ),
    Bad(
        "endless padding",
        _detection(prefix_padding_ms=10**9),
        f"{_DETECTION}.prefix_padding_ms",
        "invalid_value",
        "less than",
    ),
    Bad(
        "unknown turn detection",
        _update(audio={"input": {"turn_detection": {"type": "magic"}}}),
        _DETECTION,
        "invalid_value",
        "server_vad",
    ),
    Bad(
        "unknown eagerness",
        _update(audio={"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "x"}}}),
        f"{_DETECTION}.eagerness",
        "invalid_value",
        "low",
    ),
    Bad(
        "unknown format",
        _update(audio={"input": {"format": {"type": "audio/mp3"}}}),
        "session.audio.input.format.type",
        "invalid_value",
        "audio/pcm",
    ),
    Bad(
        "unknown rate",
        _update(audio={"input": {"format": {"type": "audio/pcm", "rate": 44100}}}),
        "session.audio.input.format",
        "invalid_value",
        "24000",
    ),
    Bad(
        "a rate that G.711 does not have",
        _update(audio={"input": {"format": {"type": "audio/pcmu", "rate": 24000}}}),
        "session.audio.input.format",
        "invalid_value",
        "8000",
    ),
    Bad(
        "turn detection where the beta protocol has it",
        _update(turn_detection={"type": "server_vad"}),
        "session.turn_detection",
        "unknown_parameter",
        "session.audio.input.turn_detection",
    ),
    Bad(
        "format of the beta protocol",
        _update(input_audio_format="pcm16"),
        "session.input_audio_format",
        "unknown_parameter",
        "unknown field",
    ),
    Bad(
        "language is no code",
        _update(audio={"input": {"transcription": {"language": "the german one"}}}),
        "session.audio.input.transcription.language",
        "invalid_value",
        "unknown language",
    ),
    Bad(
        "language is misspelled",
        _update(audio={"input": {"transcription": {"language": "Germn"}}}),
        "session.audio.input.transcription.language",
        "invalid_value",
        "did you mean 'de' (German)?",
    ),
    Bad(
        "no output at all",
        _update(output_modalities=[1]),
        "session.output_modalities.0",
        "invalid_value",
        "text",
    ),
    Bad(
        "zero tokens",
        _update(max_output_tokens=0),
        "session.max_output_tokens",
        "invalid_value",
        "greater than",
    ),
    Bad(
        "unknown truncation",
        _update(truncation="sometimes"),
        "session.truncation",
        "invalid_value",
        "disabled",
    ),
    Bad(
        "retention of more than all",
        _update(truncation={"type": "retention_ratio", "retention_ratio": 1.5}),
        "session.truncation.retention_ratio",
        "invalid_value",
        "less than",
    ),
    Bad(
        "a list for a modality",
        _update(output_modalities=[[]]),
        "session.output_modalities.0",
        "invalid_value",
        "text",
    ),
    Bad(
        "too many tools",
        _update(tools=[{"name": "f"}] * 1000),
        "session.tools",
        "invalid_value",
        "128",
    ),
    Bad(
        "a tool without a name",
        _update(tools=[{"type": "function", "function": {"name": "lamp"}}]),
        "session.tools.0",
        "invalid_value",
        "name",
    ),
    Bad(
        "a tool that is no function",
        _update(tools=[{"type": "mcp", "server_label": "files"}]),
        "session.tools.0",
        "invalid_value",
        "function",
    ),
    Bad(
        "parameters that are no schema",
        _update(tools=[{"name": "lamp", "parameters": "on or off"}]),
        "session.tools.0",
        "invalid_value",
        "parameters",
    ),
    Bad(
        "unknown choice of tools",
        _update(tool_choice="always"),
        "session.tool_choice",
        "invalid_value",
        "required",
    ),
    Bad(
        "endless instructions",
        _update(instructions="x" * 200_000),
        "session.instructions",
        "invalid_value",
        "100000",
    ),
    # ---- audio
    Bad(
        "base64 that is not",
        _event(type="input_audio_buffer.append", audio="not base64!"),
        "audio",
        "invalid_value",
        "base64",
    ),
    Bad(
        "audio is null",
        _event(type="input_audio_buffer.append", audio=None),
        "audio",
        "invalid_value",
        "string",
    ),
    Bad("no audio", _event(type="input_audio_buffer.append"), "audio", "invalid_value", "required"),
    Bad(
        "empty commit",
        _event(type="input_audio_buffer.commit"),
        None,
        "input_audio_buffer_commit_empty",
        "100 ms",
    ),
    # ---- items
    Bad("no item", _event(type="conversation.item.create"), "item", "invalid_value", "required"),
    Bad("item without type", _item(role="user"), "item.type", "invalid_value", "message"),
    Bad("unknown item type", _item(type="mcp_call"), "item.type", "invalid_value", "message"),
    Bad(
        "unknown role",
        _item(type="message", role="boss", content=[]),
        "item.role",
        "invalid_value",
        "system",
    ),
    Bad(
        "no content",
        _item(type="message", role="user"),
        "item.content",
        "invalid_value",
        "required",
    ),
    Bad(
        "unknown part",
        _user({"type": "smell"}),
        "item.content.0.type",
        "invalid_value",
        "input_text",
    ),
    Bad(
        "part of another role",
        _user({"type": "output_text", "text": "x"}),
        "item.content.0.type",
        "invalid_value",
        "input_text",
    ),
    Bad(
        "text part without text",
        _user({"type": "input_text"}),
        "item.content.0.text",
        "invalid_value",
        "text",
    ),
    Bad(
        "text is a number",
        _user({"type": "input_text", "text": 5}),
        "item.content.0.text",
        "invalid_value",
        "string",
    ),
    Bad(
        "audio part without audio",
        _user({"type": "input_audio"}),
        "item.content.0.audio",
        "invalid_value",
        "transcript",
    ),
    Bad(
        "audio part that is no base64",
        _user({"type": "input_audio", "audio": "%"}),
        "item.content.0.audio",
        "invalid_value",
        "base64",
    ),
    Bad(
        "audio part of an odd length",
        _user({"type": "input_audio", "audio": "AAAA"}),
        "item.content.0.audio",
        "invalid_value",
        "sample",
    ),
    Bad(
        "audio part without a sample",
        _user({"type": "input_audio", "audio": ""}),
        "item.content.0.audio",
        "invalid_value",
        "no audio",
    ),
    Bad(
        "an image",
        _user({"type": "input_image", "image_url": "data:,"}),
        "item.content.0.type",
        "invalid_value",
        "images",
    ),
    Bad(
        "too many parts",
        _user(*[{"type": "input_text", "text": "x"}] * 65),
        "item.content",
        "invalid_value",
        "64",
    ),
    Bad(
        "a text of a million letters",
        _user({"type": "input_text", "text": "x" * 1_000_000}),
        "item.content.0.text",
        "string_above_max_length",
        "100000",
    ),
    Bad(
        "unknown predecessor",
        _event(
            type="conversation.item.create",
            previous_item_id="ghost",
            item={"type": "message", "role": "user", "content": []},
        ),
        "previous_item_id",
        "item_create_invalid_previous_item_id",
        "ghost",
    ),
    Bad(
        "delete what is not there",
        _event(type="conversation.item.delete", item_id="ghost"),
        "item_id",
        "item_delete_invalid_item_id",
        "ghost",
    ),
    Bad(
        "delete without id",
        _event(type="conversation.item.delete"),
        "item_id",
        "invalid_value",
        "required",
    ),
    Bad(
        "retrieve what is not there",
        _event(type="conversation.item.retrieve", item_id="ghost"),
        "item_id",
        "item_retrieve_invalid_item_id",
        "ghost",
    ),
    Bad(
        "truncate what is not there",
        _event(type="conversation.item.truncate", item_id="ghost", content_index=0, text_end=1),
        "item_id",
        "item_truncate_invalid_item_id",
        "ghost",
    ),
    Bad(
        "truncate at a negative place",
        _event(type="conversation.item.truncate", item_id="x", content_index=0, text_end=-1),
        "text_end",
        "invalid_value",
        "greater than",
    ),
    # ---- responses
    Bad(
        "response is a list",
        _event(type="response.create", response=[]),
        "response",
        "invalid_value",
        "JSON object",
    ),
    Bad(
        "unknown conversation",
        _event(type="response.create", response={"conversation": "other"}),
        "response.conversation",
        "invalid_value",
        "auto",
    ),
    Bad(
        "reference to nothing",
        _event(
            type="response.create",
            response={"input": [{"type": "item_reference", "id": "ghost"}]},
        ),
        "response.input.0.id",
        "invalid_item_reference",
        "ghost",
    ),
    Bad(
        "input that is no item",
        _event(type="response.create", response={"input": [{"type": "x"}]}),
        "response.input.0.type",
        "invalid_value",
        "message",
    ),
    Bad(
        "metadata of numbers",
        _event(type="response.create", response={"metadata": {"a": 1}}),
        "response.metadata.a",
        "invalid_value",
        "string",
    ),
    Bad(
        "cancel of nothing",
        _event(type="response.cancel"),
        None,
        "response_cancel_not_active",
        "no such response",
    ),
    Bad(
        "cancel of a ghost",
        _event(type="response.cancel", response_id="ghost"),
        "response_id",
        "response_cancel_not_active",
        "no such response",
    ),
]
