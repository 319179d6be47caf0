"""What a branch is asked, and the pieces that it gives; `Branch` itself is in the contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from agent.engine.items import Item


class BranchKind(StrEnum):
    """What a branch is for; it decides the prompt after the audio.

    `TURN_END` asks of the open utterance how likely the speaker has finished. It gives no text;
    its `BranchDone` has the probability.
    """

    ANSWER = "answer"
    TRANSCRIPT = "transcript"
    TRANSLATION = "translation"
    TURN_END = "turn_end"


@dataclass(frozen=True, slots=True)
class Limits:
    """How a branch decodes.

    Attributes:
        max_output_tokens: None for the engine's own limit.
        temperature: None for the engine's default; 0 is greedy.
        seed: None for a fresh one.
    """

    max_output_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class BranchRequest:
    """One continuation of a conversation.

    Attributes:
        kind: What it is for.
        item_id: For a transcript or a translation: the committed item that it is of; None
            means the open utterance as heard so far.
        instructions: Replaces the conversation's instructions for this branch only.
        context: Replaces the conversation's items for this branch only (responses with
            their own input); a string is the id of an item of this conversation. None
            means the conversation as it is.
        include_open: Whether an ANSWER also sees the open utterance (an early answer). An
            answer asked for while somebody speaks sees the committed items alone. It may be
            adopted after that utterance was committed, and then follows it; silence heard
            between the two is not in it.
        limits: How to decode.
    """

    kind: BranchKind
    item_id: str | None = None
    instructions: str | None = None
    context: tuple[Item | str, ...] | None = None
    include_open: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that one piece of work took in and gave out.

    Attributes:
        text_tokens: Text tokens of the prompt.
        audio_tokens: Audio tokens of the prompt.
        cached_tokens: How many of these were already resident.
        output_tokens: Tokens generated.
        dropped_items: Items of the conversation that the prompt left out to fit the context.
        summarised_items: Items that a summary stood for in the prompt.
    """

    text_tokens: int = 0
    audio_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    dropped_items: int = 0
    summarised_items: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of a branch; whole characters, never half a UTF-8 sequence.

    Attributes:
        text: What comes next.
        usage: What the branch has cost with this text, or None where that is not counted yet.
            It is all that is known of a branch that is stopped.
        is_source: Of a `TRANSLATION`: whether these are the words that were said, which all
            come before those of the translation.
    """

    text: str
    usage: Usage | None = None
    is_source: bool = False


class FinishReason(StrEnum):
    """Why a branch ended."""

    STOP = "stop"
    MAX_OUTPUT_TOKENS = "max_output_tokens"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class BranchDone:
    """The last piece of every branch that did not fail.

    Attributes:
        reason: Why it ended.
        usage: What it cost.
        stages_ms: Where the time until the first text went, by stage name, in
            milliseconds, as far as the engine knows (`recognition`, `prompt`, …).
        probability: Of a `TURN_END`: that the speaker has finished, in [0, 1].
    """

    reason: FinishReason
    usage: Usage
    stages_ms: dict[str, float] = field(default_factory=dict)
    probability: float | None = None


BranchPiece = TextDelta | BranchDone
