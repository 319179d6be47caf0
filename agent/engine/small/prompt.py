"""A conversation's items as chat messages, and which of them fit into the context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.engine.contract import Truncation
from agent.engine.items import Content, Item, Role, Speech, Text, ToolCall, ToolResult
from agent.errors import ContextOverflow

Message = dict[str, str]
"""`role` and `content`, as llama.cpp's chat template takes them."""

INAUDIBLE = "(inaudible)"

# What is left of the budget for prompts when old turns are left out: less of the past is
# known afterwards, but the rest is read again seldom, and in seconds.
_KEPT_SHARE = 0.4


def build_messages(
    instructions: str, items: Sequence[Item], transcripts: Mapping[str, str]
) -> list[Message]:
    """Chat messages of a conversation.

    Args:
        instructions: The system prompt; the first message even when empty, or the model's
            template would put its own there.
        items: The history.
        transcripts: Words of the spoken items that do not carry theirs, by item id.
    """
    messages = [_message(Role.SYSTEM, instructions)]
    for item in items:
        parts = [_text(part, transcripts.get(item.id)) for part in item.content]
        text = "\n".join(filter(None, parts))
        if text:
            role = Role.USER if item.role is Role.TOOL else item.role
            messages.append(_message(role, text))
    return messages


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads.

    Attributes:
        messages: The instructions, then the conversation.
        tokens: How many these are.
        dropped: How many messages of the conversation were left out.
    """

    messages: list[Message]
    tokens: int
    dropped: int = 0


def fit(
    messages: Sequence[Message],
    budget_tokens: int,
    count: Callable[[list[Message]], int],
    truncation: Truncation,
) -> Prompt:
    """The messages without the oldest turns that do not fit.

    Turns are left out many at a time, when the next one would not fit any more: each time
    the rest of the prompt must be read again, because its beginning is not the one that is
    resident. The instructions and all from the last user message on are never left out. The
    choice depends on the messages only, so that a conversation that is built again reads
    the same.

    Args:
        messages: The instructions, then the conversation.
        budget_tokens: What the prompt may take.
        count: Tokens of a prompt; asked for one turn at a time.
        truncation: Whether turns may be left out, and down to which share of the budget.

    Raises:
        ContextOverflow: Even the shortest prompt does not fit.
    """
    system, turns = messages[0], _turns(messages[1:])
    alone = count([system])
    share = truncation.retention_ratio
    left_tokens = budget_tokens * (_KEPT_SHARE if share is None else share)
    sizes = [count([system, *turn]) - alone for turn in turns]
    first, total = 0, alone
    for last, turn in enumerate(turns):
        # As it was when this turn was to be answered, so that each turn leaves out the same
        # ones as the turn before it did.
        asked = count([system, turn[0]]) - alone
        if total + asked > budget_tokens and truncation.allowed:
            while first < last and total + asked > left_tokens:
                total -= sizes[first]
                first += 1
        total += sizes[last]
    while first < len(turns) - 1 and total > budget_tokens and truncation.allowed:
        total -= sizes[first]
        first += 1
    if total > budget_tokens:
        what = "the last message" if truncation.allowed else "all messages (truncation is disabled)"
        raise ContextOverflow(
            f"the instructions and {what} take {total} tokens; {budget_tokens} are free for them"
        )
    kept = [message for turn in turns[first:] for message in turn]
    return Prompt([system, *kept], total, len(messages) - 1 - len(kept))


def _turns(messages: Sequence[Message]) -> list[list[Message]]:
    """A turn begins with each user message."""
    turns: list[list[Message]] = []
    for message in messages:
        if message["role"] == Role.USER or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


def _message(role: Role, text: str) -> Message:
    # What people say must not be read as the template's own marks, such as <|im_end|>.
    return {"role": str(role), "content": text.replace("<|", "< |")}


def _text(part: Content, heard: str | None) -> str:
    match part:
        case Text(text=text):
            return text
        case Speech(transcript=transcript):
            return (heard if transcript is None else transcript) or INAUDIBLE
        case ToolCall(name=name, arguments=arguments):
            return f"[I called {name} with {arguments}]"
        case ToolResult(output=output):
            return f"[Result: {output}]"
