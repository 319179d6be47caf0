"""Whatever a client puts in whatever place: an answer or an error, never the session's end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.session import SessionDriver

VALUES: list[Any] = [
    None,
    5,
    -1,
    1.5,
    True,
    "",
    "x",
    [],
    [[]],
    ["x"],
    {},
    {"type": []},
    [{}],
    [5],
    "\ud800",
]

_TURN_DETECTION = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "idle_timeout_ms": 5_000,
    "create_response": True,
    "interrupt_response": True,
}
_INPUT = {
    "format": {"type": "audio/pcm", "rate": 24_000},
    "noise_reduction": {"type": "near_field"},
    "transcription": {"model": "any", "language": "en", "prompt": "names"},
    "turn_detection": _TURN_DETECTION,
}
_SCHEMA = {"type": "object", "properties": {"on": {"type": "boolean"}}}
_TOOL = {"type": "function", "name": "lamp", "description": "a lamp", "parameters": _SCHEMA}
_TEXT = {"type": "input_text", "text": "Hello"}
_MESSAGE = {"id": "new", "type": "message", "role": "user", "status": "completed"}

EVENTS: list[dict[str, Any]] = [
    {
        "type": "session.update",
        "event_id": "e1",
        "session": {
            "type": "realtime",
            "model": "any",
            "output_modalities": ["text"],
            "instructions": "Be brief.",
            "tools": [_TOOL],
            "tool_choice": "auto",
            "max_output_tokens": 5,
            "truncation": {"type": "retention_ratio", "retention_ratio": 0.5},
            "audio": {"input": _INPUT, "output": {}},
        },
    },
    {"type": "session.update", "session": {"type": "transcription", "audio": {"input": _INPUT}}},
    {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": {**_MESSAGE, "content": [_TEXT, {"type": "input_audio", "transcript": "Hello"}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call", "call_id": "c1", "name": "lamp", "arguments": "{}"},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": "c1", "output": "on"},
    },
    {"type": "conversation.item.retrieve", "item_id": "new"},
    {"type": "conversation.item.delete", "item_id": "new"},
    {"type": "conversation.item.truncate", "item_id": "new", "content_index": 0, "text_end": 1},
    {
        "type": "response.create",
        "response": {
            "conversation": "none",
            "input": [{"type": "item_reference", "id": "new"}, {**_MESSAGE, "content": [_TEXT]}],
            "instructions": "Be brief.",
            "max_output_tokens": 5,
            "metadata": {"a": "b"},
            "output_modalities": ["text"],
            "tools": [_TOOL],
            "tool_choice": {"type": "function", "name": "lamp"},
        },
    },
    {"type": "response.cancel", "response_id": "resp_1"},
    {"type": "input_audio_buffer.append", "audio": "AAAA"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
]


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for name, part in inside:
        yield (*path, name)
        if isinstance(part, dict | list):
            yield from _places(part, (*path, name))


def _with(event: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(event))
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event["type"])
def test_any_value_in_any_place_is_survived(event: dict[str, Any]) -> None:
    """The driver checks all that is sent against the types of the openai package."""
    for path in _places(event):
        for value in VALUES:
            driver = SessionDriver()
            sent = driver.say(json.dumps(_with(event, path, value)))
            for error in (one["error"] for one in sent if one["type"] == "error"):
                assert error["type"] == "invalid_request_error", (path, value)
            for one in sent:
                json.dumps(one, ensure_ascii=False).encode()
            driver.say({"type": "input_audio_buffer.clear"})
            assert driver.events[-1]["type"] == "input_audio_buffer.cleared", (path, value)
