"""Which field somebody may have meant who wrote a name that there is not."""

from __future__ import annotations

import difflib
from collections import deque
from typing import get_args

from pydantic import BaseModel

_CLOSE = 0.75
"""So alike are a misspelled name and the one that was meant (difflib's ratio)."""


def likely_place(model: type[BaseModel], path: str, name: str) -> str | None:
    """The dotted path of the field of that or a similar name, in a model or those inside it.

    Args:
        model: Where to look.
        path: Where the model itself stands; may be empty.
        name: What was written.
    """
    places = _field_places(model, path)
    close = difflib.get_close_matches(name, places, n=1, cutoff=_CLOSE)
    return places[close[0]] if close else None


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
