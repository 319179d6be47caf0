"""JSON of a client, as far as a stranger may send it.

What is taken is small enough to be checked, shown and compared without delaying anybody else:
pydantic lists every fault of a value, and for two million of them takes 26 s.
"""

from __future__ import annotations

import json
from typing import Any

from agent.errors import InvalidEvent

MAX_VALUES = 20_000
"""Fields and list entries, at any depth; 128 tools with large schemas have fewer."""

MAX_COMMAS = 100_000
"""Those of texts included: a million characters of prose have a fifth of that. JSON with more takes
long to parse."""

MAX_DEPTH = 64
"""Objects and lists in each other; pydantic writes 255, and Python's JSON about 1,000."""

MAX_NAME_CHARS = 256
"""Of a field: an error repeats it, and looks for one that is spelled like it."""


def load_object(text: str | bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: The JSON; bytes are UTF-8.
        what: It is, for the error.

    Raises:
        InvalidEvent: It is no JSON object, or has more in it than anybody needs.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        if text.count(",") > MAX_COMMAS:
            raise _too_much(
                f"{what} has more than {MAX_COMMAS} commas: more fields, values or text than "
                "anybody needs"
            )
        # NaN and Infinity are no JSON; Python's parser would let them through.
        raw = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"{what} is not JSON ({error})", code="invalid_json") from error
    if not isinstance(raw, dict):
        raise InvalidEvent(f"{what} must be a JSON object", code="invalid_json")
    _check_size(raw, what)
    if "\\u" in text:
        _check_text(raw, what)
    return raw


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number")


def _check_size(raw: dict[str, Any], what: str) -> None:
    count = 0
    level: list[Any] = [raw]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            count += len(value)
            if count > MAX_VALUES:
                raise _too_much(f"{what} has more than {MAX_VALUES} fields and values")
            if isinstance(value, dict) and any(len(name) > MAX_NAME_CHARS for name in value):
                raise _too_much(
                    f"{what} has a field whose name is longer than {MAX_NAME_CHARS} characters"
                )
            parts = value.values() if isinstance(value, dict) else value
            below += (part for part in parts if isinstance(part, dict | list))
        if not below:
            return
        level = below
    raise _too_much(f"{what} has objects or lists more than {MAX_DEPTH} deep in each other")


def _check_text(raw: dict[str, Any], what: str) -> None:
    """JavaScript cuts texts between the halves of a character, and JSON can say such a half."""
    try:
        json.dumps(raw, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(
            f"{what} holds half of a surrogate pair, which is no text: send whole characters",
            code="invalid_json",
        ) from error


def _too_much(message: str) -> InvalidEvent:
    return InvalidEvent(message, code="too_complex")
