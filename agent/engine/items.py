"""What a conversation is made of: items, as an engine sees them.

A conversation can be rebuilt from its items on any engine at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who an item belongs to."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Text:
    """Text content of an item."""

    text: str


@dataclass(frozen=True, slots=True)
class Speech:
    """Spoken content of an item.

    Attributes:
        clips: 16-bit little-endian PCM, mono, 16 kHz; one bytes object a clip, each shorter
            than `MAX_CLIP_SAMPLES`. Empty when the audio is no longer kept.
        transcript: What was said, once it is known. A conversation can be rebuilt from
            either; one of the two is always there.
    """

    clips: tuple[bytes, ...] = ()
    transcript: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The assistant asked for a tool; `arguments` is JSON text."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the tool answered."""

    call_id: str
    output: str


Content = Text | Speech | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a conversation's history."""

    id: str
    role: Role
    content: tuple[Content, ...]
