"""How much a client may send in one JSON object."""

from __future__ import annotations

import json

import pytest

from agent.errors import InvalidEvent
from agent.protocol.config import MAX_INSTRUCTIONS_CHARS, MAX_TOOLS, SessionConfig
from agent.protocol.json_objects import MAX_DEPTH, MAX_VALUES, load_object


def test_the_largest_settings_that_there_may_be_are_taken() -> None:
    properties = {
        f"property {number}": {"type": "string", "description": "one, two, three, or four"}
        for number in range(30)
    }
    tool = {"name": "t", "parameters": {"type": "object", "properties": properties}}
    settings = {
        "tools": [tool] * MAX_TOOLS,
        "instructions": "well, " * (MAX_INSTRUCTIONS_CHARS // 6),
    }
    taken = load_object(json.dumps(settings), "it")
    assert taken == settings
    SessionConfig().updated(taken)


def test_limits_count_what_lies_below_each_other_and_beside() -> None:
    beside = {"list": [0] * (MAX_VALUES - 1)}
    assert load_object(json.dumps(beside).encode(), "it") == beside
    deep = '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH
    assert load_object(deep, "it")
    for too_much in (json.dumps(beside | {"one": "more"}), f'{{"a":{deep}}}'):
        with pytest.raises(InvalidEvent, match="it has") as refused:
            load_object(too_much, "it")
        assert refused.value.code == "too_complex"


@pytest.mark.parametrize("wrong", ["", "{", "[1]", "7", b"\xff", b'{"a": "\xe4"}', '{"a": NaN}'])
def test_what_is_no_object_is_refused(wrong: str | bytes) -> None:
    with pytest.raises(InvalidEvent, match=r"it (is not JSON|must be a JSON object)") as refused:
        load_object(wrong, "it")
    assert refused.value.code == "invalid_json"


def test_whole_characters_are_taken_however_they_are_written() -> None:
    for written in ('{"a": "\\ud83d\\ude00"}', '{"a": "\U0001f600"}', '{"a": "\\\\ud83d"}'):
        assert load_object(written, "it") == json.loads(written)
    for half in ('{"a": ["\\ud83d"]}', '{"\\ude00": 1}', b'{"a": "\\ud83d and so on"}'):
        with pytest.raises(InvalidEvent, match="it holds half of a surrogate pair"):
            load_object(half, "it")
