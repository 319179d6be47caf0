"""What a conversation is made of: items, as the client sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text of a message."""

    text: str


@dataclass(frozen=True, slots=True)
class AudioPart:
    """Speech of a message.

    Attributes:
        transcript: What was said, once known.
        clips: 16-bit PCM, 16 kHz, one bytes object a clip; only while audio that a client
            put into an item is on its way to the engine, which is where audio lives.
    """

    transcript: str | None = None
    clips: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of the conversation as the client sees it.

    Attributes:
        id: Its name.
        type: `message`, `function_call` or `function_call_output`.
        role: `system`, `user` or `assistant` for a message.
        parts: A message's content.
        status: `in_progress`, `completed` or `incomplete`.
        call: The fields of a function call or its output.
    """

    id: str
    type: str = "message"
    role: str | None = None
    parts: tuple[TextPart | AudioPart, ...] = ()
    status: str = "completed"
    call: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    def to_wire(self) -> dict[str, Any]:
        """The item in the protocol's shape."""
        wire: dict[str, Any] = {
            "id": self.id,
            "object": "realtime.item",
            "type": self.type,
            "status": self.status,
        }
        if self.type == "message":
            wire["role"] = self.role
            wire["content"] = [self._part_to_wire(part) for part in self.parts]
        return wire | self.call

    def _part_to_wire(self, part: TextPart | AudioPart) -> dict[str, Any]:
        if isinstance(part, AudioPart):
            return {"type": "input_audio", "transcript": part.transcript}
        kind = "output_text" if self.role == "assistant" else "input_text"
        return {"type": kind, "text": part.text}
