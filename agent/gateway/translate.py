"""Between the session's words and the engine's: neither imports the other."""

from __future__ import annotations

from agent.engine import contract
from agent.engine import items as engine_items
from agent.engine.branches import BranchKind, BranchRequest, Limits, Usage
from agent.session import commands, tokens
from agent.session.items import AudioPart, Item, TextPart

_ROLES = {
    "system": engine_items.Role.SYSTEM,
    "user": engine_items.Role.USER,
    "assistant": engine_items.Role.ASSISTANT,
}

_KINDS = {
    commands.BranchPurpose.ANSWER: BranchKind.ANSWER,
    commands.BranchPurpose.TRANSCRIPT: BranchKind.TRANSCRIPT,
    # Without an item it is one of the open utterance.
    commands.BranchPurpose.CAPTION: BranchKind.TRANSCRIPT,
    commands.BranchPurpose.TRANSLATION: BranchKind.TRANSLATION,
    commands.BranchPurpose.JUDGEMENT: BranchKind.TRANSCRIPT,
}

TRANSLATION_LIMITS = Limits(max_output_tokens=1024, temperature=0.0)
"""Half a minute of fast speech twice, in a language that takes many tokens; nothing to choose."""


def engine_item(item: Item) -> engine_items.Item:
    """A conversation item as the engine wants it."""
    if item.type == "function_call":
        call = engine_items.ToolCall(
            item.call["call_id"], item.call["name"], item.call["arguments"]
        )
        return engine_items.Item(item.id, engine_items.Role.ASSISTANT, (call,))
    if item.type == "function_call_output":
        result = engine_items.ToolResult(item.call["call_id"], item.call["output"])
        return engine_items.Item(item.id, engine_items.Role.TOOL, (result,))
    assert item.role is not None
    content = tuple(_engine_content(part) for part in item.parts)
    return engine_items.Item(item.id, _ROLES[item.role], content)


def _engine_content(part: TextPart | AudioPart) -> engine_items.Content:
    if isinstance(part, TextPart):
        return engine_items.Text(part.text)
    return engine_items.Speech(clips=part.clips, transcript=part.transcript)


def engine_settings(command: commands.Configure) -> contract.ConversationSettings:
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
    command: commands.StartBranch, *, temperature: float, max_output_tokens: int
) -> BranchRequest:
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
    return BranchRequest(
        kind=_KINDS[command.purpose],
        item_id=command.item_id,
        instructions=command.instructions,
        context=context,
        include_open=command.include_open,
        limits=Limits(
            max_output_tokens=min(
                command.max_output_tokens or max_output_tokens, max_output_tokens
            ),
            temperature=temperature,
        )
        if command.purpose is not commands.BranchPurpose.TRANSLATION
        else TRANSLATION_LIMITS,
    )


def session_usage(usage: Usage) -> tokens.TokenUsage:
    """What a branch cost, in the session's words."""
    return tokens.TokenUsage(
        text_tokens=usage.text_tokens,
        audio_tokens=usage.audio_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        dropped_items=usage.dropped_items,
        summarised_items=usage.summarised_items,
    )
