"""What the engine's branches give a session, in the session's words."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """What a branch cost, in tokens, and how many items were not in its prompt as they are."""

    text_tokens: int = 0
    audio_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    dropped_items: int = 0
    summarised_items: int = 0


@dataclass(frozen=True, slots=True)
class BranchText:
    """More text of a branch.

    Attributes:
        branch_id: Which.
        text: What comes next.
        usage: What it has cost with this text, or None.
        is_source: Whether these are the words that a translation is made of.
    """

    branch_id: str
    text: str
    usage: TokenUsage | None = None
    is_source: bool = False


@dataclass(frozen=True, slots=True)
class BranchEnded:
    """A branch is complete.

    Attributes:
        branch_id: Which.
        complete: False when it met its token limit.
        usage: What it cost.
        stages_ms: Where the time to its first text went, by stage.
    """

    branch_id: str
    complete: bool
    usage: TokenUsage
    stages_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BranchFailed:
    """A branch could not be completed."""

    branch_id: str
    code: str
    message: str


TokenEvent = BranchText | BranchEnded | BranchFailed
