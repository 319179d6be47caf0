"""What a session has the engine do, as values; the driver carries them out.

`agent.gateway.translate` says them in the engine's words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from agent.audio.pcm import Samples
from agent.session.items import Item


class BranchPurpose(StrEnum):
    """What a branch is for.

    A caption is a transcript of the open utterance as heard so far; a judgement is one, too, made
    to tell whether the speaker has finished.
    """

    ANSWER = "answer"
    TRANSCRIPT = "transcript"
    CAPTION = "caption"
    TRANSLATION = "translation"
    JUDGEMENT = "judgement"


@dataclass(frozen=True, slots=True)
class Configure:
    """Change what the conversation is answered with.

    Attributes:
        instructions: The system prompt.
        tools: In the protocol's shape.
        language: Of the speech, or None.
        truncation: What happens when the conversation gets too long: the engine's own way,
            nothing, or the share of the room that is kept.
        translate_into: The language that translations are made in, or None.
    """

    instructions: str
    tools: tuple[dict[str, Any], ...]
    language: str | None
    truncation: Literal["auto", "disabled"] | float = "auto"
    translate_into: str | None = None


@dataclass(frozen=True, slots=True)
class Hear:
    """Add speech to the open utterance."""

    samples: Samples


@dataclass(frozen=True, slots=True)
class Cut:
    """End the open clip after its first `keep_samples` samples."""

    keep_samples: int


@dataclass(frozen=True, slots=True)
class Pause:
    """The speaker paused: start early work."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The speaker went on: drop early work."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop the open utterance."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Close the open utterance as a user item after item `after` (None: first)."""

    item_id: str
    after: str | None


@dataclass(frozen=True, slots=True)
class StartBranch:
    """Decode a continuation.

    Attributes:
        branch_id: Names it in the events that come back.
        purpose: What it is for.
        item_id: For a transcript or a translation, the item that it is of; None for the open
            utterance.
        instructions: Replaces the session's for this branch, or None.
        context: Replaces the conversation for this branch: items, or ids of items.
        max_output_tokens: None for the server's own limit.
        include_open: Whether an answer also sees the open utterance.
        optional: Whether it may fail because the engine has no time to spare.
    """

    branch_id: str
    purpose: BranchPurpose
    item_id: str | None = None
    instructions: str | None = None
    context: tuple[Item | str, ...] | None = None
    max_output_tokens: int | None = None
    include_open: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class DropBranch:
    """Stop a branch and keep nothing of it; harmless when it has ended."""

    branch_id: str


@dataclass(frozen=True, slots=True)
class AdoptBranch:
    """Stop a branch and keep its first `upto` characters as an item after `after` (None: first)."""

    branch_id: str
    item_id: str
    upto: int
    after: str | None


@dataclass(frozen=True, slots=True)
class InsertItem:
    """Add an item after item `after` (None: first)."""

    item: Item
    after: str | None


@dataclass(frozen=True, slots=True)
class TruncateItem:
    """Cut an assistant item's text."""

    item_id: str
    upto: int


@dataclass(frozen=True, slots=True)
class DeleteItem:
    """Remove an item."""

    item_id: str


Command = (
    Configure
    | Hear
    | Cut
    | Pause
    | Resume
    | Forget
    | Commit
    | StartBranch
    | DropBranch
    | AdoptBranch
    | InsertItem
    | TruncateItem
    | DeleteItem
)
