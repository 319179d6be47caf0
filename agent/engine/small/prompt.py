"""A conversation's items as chat messages, and which of them fit into the context."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from agent.engine.contract import Content, Item, Role, Speech, Text, ToolCall, ToolResult
from agent.errors import ContextOverflow

Message = dict[str, str]
"""`role` and `content`, as llama.cpp's chat template takes them."""

INAUDIBLE = "(inaudible)"

# Old turns are left out this many at a time: each time they change, the whole rest of the
# prompt must be read again, because its beginning is not the one that is resident.
_TURNS_LEFT_OUT_TOGETHER = 4


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


def fit(
    messages: Sequence[Message], budget_tokens: int, count: Callable[[list[Message]], int]
) -> tuple[list[Message], int]:
    """The messages without the oldest turns that do not fit.

    The instructions and all from the last user message on are never left out. The choice
    depends on the messages only, so that a conversation that is built again reads the same.

    Args:
        messages: The instructions, then the conversation.
        budget_tokens: What the prompt may take.
        count: Tokens of a prompt.

    Returns:
        The messages that fit and their tokens.

    Raises:
        ContextOverflow: Even the shortest prompt does not fit.
    """
    system, rest = messages[0], messages[1:]
    starts = [0, *(i for i, one in enumerate(rest) if i and one["role"] == Role.USER)]
    coarse = starts[:-1:_TURNS_LEFT_OUT_TOGETHER]
    candidates = [*coarse, *(start for start in starts if start > coarse[-1])] if coarse else starts

    def kept(start: int) -> list[Message]:
        return [system, *rest[start:]]

    # The prompt gets shorter with every later start.
    chosen = bisect_left(candidates, True, key=lambda start: count(kept(start)) <= budget_tokens)
    if chosen == len(candidates):
        shortest = count(kept(candidates[-1]))
        raise ContextOverflow(
            f"the instructions and the last message take {shortest} tokens; "
            f"{budget_tokens} are free for them"
        )
    prompt = kept(candidates[chosen])
    return prompt, count(prompt)


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
