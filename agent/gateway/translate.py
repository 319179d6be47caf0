"""Between the session's words and the engine's: neither imports the other."""

from __future__ import annotations

from agent.engine import contract
from agent.session import items
from agent.session.items import AudioPart, Item, TextPart

_ROLES = {
    "system": contract.Role.SYSTEM,
    "user": contract.Role.USER,
    "assistant": contract.Role.ASSISTANT,
}

_KINDS = {
    items.BranchPurpose.ANSWER: contract.BranchKind.ANSWER,
    items.BranchPurpose.TRANSCRIPT: contract.BranchKind.TRANSCRIPT,
    # Without an item it is one of the open utterance.
    items.BranchPurpose.CAPTION: contract.BranchKind.TRANSCRIPT,
    items.BranchPurpose.TRANSLATION: contract.BranchKind.TRANSLATION,
    items.BranchPurpose.JUDGEMENT: contract.BranchKind.TRANSCRIPT,
}

TRANSLATION_LIMITS = contract.Limits(max_output_tokens=1024, temperature=0.0)
"""Half a minute of fast speech twice, in a language that takes many tokens; nothing to choose."""


def engine_item(item: Item) -> contract.Item:
    """A conversation item as the engine wants it."""
    if item.type == "function_call":
        call = contract.ToolCall(item.call["call_id"], item.call["name"], item.call["arguments"])
        return contract.Item(item.id, contract.Role.ASSISTANT, (call,))
    if item.type == "function_call_output":
        result = contract.ToolResult(item.call["call_id"], item.call["output"])
        return contract.Item(item.id, contract.Role.TOOL, (result,))
    assert item.role is not None
    content = tuple(_engine_content(part) for part in item.parts)
    return contract.Item(item.id, _ROLES[item.role], content)


def _engine_content(part: TextPart | AudioPart) -> contract.Content:
    if isinstance(part, TextPart):
        return contract.Text(part.text)
    return contract.Speech(clips=part.clips, transcript=part.transcript)


def engine_settings(command: items.Configure) -> contract.ConversationSettings:
    """What a conversation is answered with."""
    match command.truncation:
        case "auto":
            truncation = contract.Truncation()
        case "disabled":
            truncation = contract.Truncation(allowed=False)
        case float(ratio):
            truncation = contract.Truncation(retention_ratio=ratio)
    return contract.ConversationSettings(
        command.instructions,
        command.tools,
        command.language,
        truncation,
        command.translate_into,
    )


def engine_request(
    command: items.StartBranch, *, temperature: float, max_output_tokens: int
) -> contract.BranchRequest:
    """What to decode.

    Args:
        command: What the session asks for.
        temperature: The server's setting.
        max_output_tokens: The server's limit; the session can ask for less.
    """
    context = None
    if command.context is not None:
        context = tuple(
            entry if isinstance(entry, str) else engine_item(entry) for entry in command.context
        )
    return contract.BranchRequest(
        kind=_KINDS[command.purpose],
        item_id=command.item_id,
        instructions=command.instructions,
        context=context,
        include_open=command.include_open,
        limits=contract.Limits(
            max_output_tokens=min(
                command.max_output_tokens or max_output_tokens, max_output_tokens
            ),
            temperature=temperature,
        )
        if command.purpose is not items.BranchPurpose.TRANSLATION
        else TRANSLATION_LIMITS,
    )


def session_usage(usage: contract.Usage) -> items.TokenUsage:
    """What a branch cost, in the session's words."""
    return items.TokenUsage(
        text_tokens=usage.text_tokens,
        audio_tokens=usage.audio_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        dropped_items=usage.dropped_items,
        summarised_items=usage.summarised_items,
    )
