"""What a session speaks in: conversation items, commands to the engine, tokens from it.

All plain frozen data. `agent.gateway.driver` translates the commands into calls of an
engine and the engine's results into the events at the end of this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from agent.audio.pcm import Samples

# ---------------------------------------------------------------- conversation items


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


# ---------------------------------------------------------------- commands to the engine


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


# ---------------------------------------------------------------- other output


@dataclass(frozen=True, slots=True)
class Send:
    """An event for the client."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTurn:
    """Say how likely it is that the speaker has finished; nobody waits if nobody can.

    Attributes:
        number: Of the pause; comes back with the answer.
        samples: float32[T], 16 kHz: the end of the turn, this pause included.
    """

    number: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection; `limit` is `idle` or `max_session`, None when the client wants it."""

    limit: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class TurnReport:
    """One spoken turn is over and answered (or will not be): for logs and metrics.

    Attributes:
        item_id: The user item.
        response_id: Its answer, or None.
        status: The answer's status, or None.
        audio_s: Seconds heard.
        clips: How many clips they were heard in.
        end_reason: Why the turn ended: `silence`, `max_turn`, `stalled`, `committed`, `idle`.
        turn_end_delay_ms: From the true end of speech to the decision that the turn is over.
        first_token_ms: From the true end of speech to the first text sent, or None.
        stages_ms: Parts of `first_token_ms` by stage.
        output_tokens: Tokens of the answer.
    """

    item_id: str
    response_id: str | None
    status: str | None
    audio_s: float
    clips: int
    end_reason: str
    turn_end_delay_ms: float
    first_token_ms: float | None
    stages_ms: dict[str, float]
    output_tokens: int


class EarlyOutcome(StrEnum):
    """What becomes of an answer that is begun at a pause."""

    BEGUN = "begun"
    KEPT = "kept"  # the turn was over
    DROPPED = "dropped"  # the speaker went on, or what it was about changed
    FAILED = "failed"  # the engine had no time for it, or could not


@dataclass(frozen=True, slots=True)
class EarlyAnswerReport:
    """Something happened to an early answer: for metrics. Each is `begun`, then one other."""

    outcome: EarlyOutcome


class PassOutcome(StrEnum):
    """What became of a pass over speech that goes on."""

    ENDED = "ended"
    DROPPED = "dropped"  # the speech was over first
    FAILED = "failed"  # the engine had no time for it, or could not


@dataclass(frozen=True, slots=True)
class PassReport:
    """A pass over speech that goes on is over: for metrics.

    Attributes:
        purpose: `CAPTION` or `TRANSLATION`.
        outcome: What became of it.
        took_s: How long that took.
    """

    purpose: BranchPurpose
    outcome: PassOutcome
    took_s: float


Report = TurnReport | EarlyAnswerReport | PassReport
Output = Send | Command | ScoreTurn | Close | Report


# ---------------------------------------------------------------- events from the engine


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
