"""What a client sent, checked against a model: what is wrong is named, and what would be right."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from agent.errors import InvalidEvent
from agent.field_names import likely_place

# Some of pydantic's messages repeat what was sent.
_MAX_MESSAGE_CHARS = 500
# Kinds of objects that have a `type`, as pydantic names them.
_KINDS = ("server_vad", "semantic_vad")

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
        location = _public_location(problem)
        param = ".".join([*([path] if path else []), *location])
        raise InvalidEvent(
            _sentence(problem, param, model, path),
            code="unknown_parameter" if problem["type"] == "extra_forbidden" else "invalid_value",
            param=param or None,
        ) from error


def _public_location(problem: Any) -> list[str]:
    """The path as a client knows it: without the names of union members."""
    members = {*_KINDS, "ChosenFunction", "int", "str", "constrained-int", "word", "ratio"}
    location = [str(part) for part in problem["loc"]]
    # An unknown field has the client's own name for it, whatever that is.
    unknown = location[-1:] if problem["type"] == "extra_forbidden" else []
    known = [
        part
        for part in location[: len(location) - len(unknown)]
        if part not in members and not part.startswith(("literal[", "dict[", "function-"))
    ]
    return known + unknown


def _sentence(problem: Any, param: str, model: type[BaseModel], path: str) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown field {problem['loc'][-1]!r}{_hint(problem, param, model, path)}"
    message: str = problem["msg"].removeprefix("Value error, ")[:_MAX_MESSAGE_CHARS]
    if problem["type"] == "model_type":
        message = "Input should be a JSON object"
    given = problem.get("input")
    short = isinstance(given, bool | int | float) or (isinstance(given, str) and len(given) <= 40)
    if given is None:
        return f"{message} (got null)"
    if short and repr(given) not in message:
        return f"{message} (got {given!r})"
    return message


def _hint(problem: Any, param: str, model: type[BaseModel], path: str) -> str:
    """What may have been meant by a field that there is not, or nothing."""
    place = likely_place(model, path, problem["loc"][-1])
    if place is None:
        return ""
    if place != param:
        return f"; did you mean {place!r}?"
    # Another kind of the same object has it: a threshold is for server_vad only.
    kind = next((part for part in problem["loc"][::-1] if part in _KINDS), "this object")
    return f"; {kind} does not have it"
