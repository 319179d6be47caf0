"""Items of a conversation as messages for a checkpoint's own chat template.

What a template can do is found out by rendering small probes with it, never assumed: whether
it accepts two messages of one role in a row, whether it writes tools, and in which of the two
usual shapes it wants what a tool answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from agent.engine.items import Item, Role, Speech, Text, ToolCall, ToolResult
from agent.errors import TemplateFailed, Unsupported

Message = dict[str, Any]

INAUDIBLE = "(inaudible)"

_TEMPLATE_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a template can raise: jinja2's own errors, and those of the expressions in it."""


@dataclass(frozen=True, slots=True)
class ClipRef:
    """A clip in a prompt.

    Attributes:
        clip: Which; unique within a conversation for as long as it lives.
        tokens: Soft tokens it has, so far if it is still being heard.
    """

    clip: Hashable
    tokens: int


PromptContent = Text | ClipRef | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class PromptItem:
    """One entry of a conversation as the prompt takes it."""

    role: Role
    content: tuple[PromptContent, ...]

    @classmethod
    def of(cls, item: Item, clips: Iterable[ClipRef] = ()) -> PromptItem:
        """An item heard through these clips, or read where there are none.

        Args:
            item: From the history.
            clips: What is resident or kept of its speech, in order. Without any, its
                transcript stands for it.
        """
        heard = tuple(clips)
        content: list[PromptContent] = [*heard]
        for part in item.content:
            if not isinstance(part, Speech):
                content.append(part)
            elif not heard:
                content.append(Text(part.transcript or INAUDIBLE))
        return cls(item.role, tuple(content))

    @property
    def clips(self) -> tuple[ClipRef, ...]:
        """Its clips, in order."""
        return tuple(part for part in self.content if isinstance(part, ClipRef))

    @property
    def text(self) -> str:
        """Its text parts as one."""
        texts = (part.text for part in self.content if isinstance(part, Text))
        return "\n".join(text for text in texts if text)


class _Results(Enum):
    """How a template takes what tools answered."""

    IN_THE_CALL = "tool_responses of the assistant's message"
    MESSAGES = "messages of the role tool"


@dataclass(slots=True)
class _Turn:
    """A message, and the results of the tools it called."""

    message: Message
    results: list[tuple[ToolCall, ToolResult]] = field(default_factory=list)


class ChatTemplate:
    """A tokenizer's chat template and what it can do."""

    def __init__(self, name: str, tokenizer: Any) -> None:
        """Probe nothing yet.

        Args:
            name: The checkpoint, for messages.
            tokenizer: With a chat template.
        """
        self._name = name
        self._tokenizer = tokenizer
        source = str(tokenizer.chat_template)
        self._control = re.compile(
            "|".join(
                re.escape(token.content)
                for token in tokenizer.added_tokens_decoder.values()
                if token.special or (token.content in source and not token.content.isspace())
            )
        )

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] = (),
        *,
        generate: bool = False,
    ) -> str:
        """What the template makes of messages.

        Raises:
            TemplateFailed: It raised.
        """
        try:
            rendered = self._tokenizer.apply_chat_template(
                list(messages),
                tools=list(tools) or None,
                add_generation_prompt=generate,
                tokenize=False,
            )
        except _TEMPLATE_ERRORS as error:
            raise TemplateFailed(
                f"the chat template of {self._name} cannot write this prompt: "
                f"{type(error).__name__}: {error}"
            ) from error
        assert isinstance(rendered, str)
        return rendered

    def messages(self, instructions: str, items: Sequence[PromptItem]) -> list[Message]:
        """The messages of a conversation, with all its clips in their order.

        Raises:
            Unsupported: There are tool calls, and the template does not write them.
        """
        turns: list[_Turn] = []
        if instructions:
            turns.append(_Turn({"role": "system", "content": self.plain(instructions)}))
        calls: dict[str, tuple[ToolCall, _Turn]] = {}
        for item in items:
            self._add(turns, item, calls)
        if not turns:
            turns.append(_Turn({"role": "system", "content": ""}))
        if self._merges:
            turns = _merged(turns)
        return [message for turn in turns for message in self._flat(turn)]

    def tools(self, tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Tools in the shape that templates take, from the protocol's.

        Raises:
            Unsupported: The template does not write tools.
        """
        if tools and not self._writes_tools:
            raise Unsupported(f"the chat template of {self._name} has no place for tools")
        return [self._plain_json(_nested(tool)) for tool in tools]

    def plain(self, text: str) -> str:
        """Text in which nothing is read as a control token: what people say is no markup."""
        if not self._control.pattern:
            return text
        return self._control.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)

    def _plain_json(self, value: Any) -> Any:
        match value:
            case str():
                return self.plain(value)
            case dict():
                return {self.plain(key): self._plain_json(part) for key, part in value.items()}
            case list() | tuple():
                return [self._plain_json(part) for part in value]
            case _:
                return value

    def _add(
        self, turns: list[_Turn], item: PromptItem, calls: dict[str, tuple[ToolCall, _Turn]]
    ) -> None:
        text = self.plain(item.text)
        if text or item.clips:
            self._add_words(turns, item, text)
        for part in item.content:
            if isinstance(part, ToolCall):
                self._add_call(turns, part, calls)
            elif isinstance(part, ToolResult):
                self._add_result(turns, part, calls)

    def _add_words(self, turns: list[_Turn], item: PromptItem, text: str) -> None:
        last = turns[-1] if turns else None
        if (
            item.role is Role.ASSISTANT
            and last is not None
            and last.results
            and self._results is _Results.IN_THE_CALL
            and "content" not in last.message
        ):
            # The turn goes on after what the tools answered.
            last.message["content"] = text
            return
        role = Role.USER if item.role is Role.TOOL else item.role
        content = _content([{"type": "audio"} for _ in item.clips], text)
        turns.append(_Turn({"role": str(role), "content": content}))

    def _add_call(
        self, turns: list[_Turn], call: ToolCall, calls: dict[str, tuple[ToolCall, _Turn]]
    ) -> None:
        if self._results is None:
            raise Unsupported(f"the chat template of {self._name} has no place for tool calls")
        last = turns[-1] if turns else None
        if last is None or "tool_calls" not in last.message or last.results:
            last = _Turn({"role": "assistant", "tool_calls": []})
            turns.append(last)
        function = {"name": call.name, "arguments": _mapping(call.arguments) or call.arguments}
        last.message["tool_calls"].append(
            {"id": call.call_id, "type": "function", "function": self._plain_json(function)}
        )
        calls[call.call_id] = call, last

    def _add_result(
        self, turns: list[_Turn], result: ToolResult, calls: dict[str, tuple[ToolCall, _Turn]]
    ) -> None:
        if result.call_id in calls:
            # Templates look for results right after their call, whatever was said in between.
            call, turn = calls[result.call_id]
            turn.results.append((call, result))
        else:
            # The call was deleted: what the tool said is still worth reading.
            text = self.plain(f"[Result: {result.output}]")
            turns.append(_Turn({"role": "user", "content": text}))

    def _flat(self, turn: _Turn) -> list[Message]:
        if not turn.results:
            return [turn.message]
        if self._results is _Results.MESSAGES:
            return [
                turn.message,
                *(
                    {
                        "role": "tool",
                        "tool_call_id": call.call_id,
                        "name": self.plain(call.name),
                        "content": self.plain(result.output),
                    }
                    for call, result in turn.results
                ),
            ]
        responses = [
            {"name": call.name, "response": _mapping(result.output) or result.output}
            for call, result in turn.results
        ]
        return [{**turn.message, "tool_responses": self._plain_json(responses)}]

    @cached_property
    def _merges(self) -> bool:
        """Whether messages of one role in a row must be made one."""
        one = {"role": "user", "content": "a"}
        try:
            self.render([one, one], generate=True)
        except TemplateFailed:
            return True
        return False

    @cached_property
    def _writes_tools(self) -> bool:
        probe = {"type": "function", "name": "probed_tool", "description": "", "parameters": {}}
        user = {"role": "user", "content": "a"}
        try:
            return "probed_tool" in self.render([user], [_nested(probe)])
        except TemplateFailed:
            return False

    @cached_property
    def _results(self) -> _Results | None:
        """How calls and results are written; None where they are not."""
        function = {"name": "probed_tool", "arguments": {}}
        calls = [{"id": "probed_id", "type": "function", "function": function}]
        call: Message = {"role": "assistant", "tool_calls": calls}
        response = {"name": "probed_tool", "response": "probed result"}
        answer = {"role": "tool", "tool_call_id": "probed_id", "content": "probed result"}
        shapes: dict[_Results, list[Message]] = {
            _Results.IN_THE_CALL: [{**call, "tool_responses": [response]}],
            _Results.MESSAGES: [call, answer],
        }
        for shape, messages in shapes.items():
            try:
                text = self.render([{"role": "user", "content": "a"}, *messages])
            except TemplateFailed:
                continue
            if "probed_tool" in text and "probed result" in text:
                return shape
        return None


def _nested(tool: dict[str, Any]) -> dict[str, Any]:
    """The protocol's flat function tool as templates take it."""
    if "function" in tool:
        return tool
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _mapping(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, or None."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _merged(turns: Iterable[_Turn]) -> list[_Turn]:
    """Neighbours of one role made one: media first, then text."""
    merged: list[_Turn] = []
    for turn in turns:
        last = merged[-1] if merged else None
        plain = "tool_calls" not in turn.message
        if last and plain and _same_role(last.message, turn.message):
            parts = [*_parts(last.message), *_parts(turn.message)]
            media = [part for part in parts if part["type"] != "text"]
            text = "\n".join(part["text"] for part in parts if part["type"] == "text")
            content = _content(media, text)
            merged[-1] = _Turn({**last.message, "content": content})
        else:
            merged.append(turn)
    return merged


def _same_role(one: Message, other: Message) -> bool:
    return bool(one["role"] == other["role"] and "tool_calls" not in one)


def _parts(message: Message) -> list[Message]:
    content: str | list[Message] = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _content(media: list[Message], text: str) -> str | list[Message]:
    """Media first, then text."""
    if not media:
        return text
    return [*media, {"type": "text", "text": text}] if text else media
