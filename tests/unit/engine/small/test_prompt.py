from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine.contract import Truncation
from agent.engine.items import Item, Role, Speech, Text, ToolCall, ToolResult
from agent.engine.small.prompt import Message, Prompt, build_messages, fit
from agent.errors import ContextOverflow

AUTO = Truncation()


def count(messages: list[Message]) -> int:
    """A token a character, and one a message."""
    return sum(len(message["content"]) + 1 for message in messages)


def chat(*contents: str) -> list[Message]:
    """A system prompt, then user and assistant in turn."""
    roles = ["system", *("user" if i % 2 else "assistant" for i in range(1, len(contents)))]
    return [
        {"role": role, "content": content} for role, content in zip(roles, contents, strict=True)
    ]


def test_all_kinds_of_content_become_text() -> None:
    items = [
        Item("a", Role.USER, (Text("typed"), Speech(transcript="spoken"))),
        Item("b", Role.USER, (Speech(),)),
        Item("c", Role.USER, (Speech(transcript=""),)),
        Item("d", Role.ASSISTANT, (ToolCall("1", "light", '{"on": true}'),)),
        Item("e", Role.TOOL, (ToolResult("1", "done"),)),
        Item("f", Role.ASSISTANT, ()),
        Item("g", Role.SYSTEM, (Text("be brief"),)),
        Item("h", Role.USER, (Speech(),)),
    ]
    assert build_messages("", items, {"b": "heard"}) == [
        {"role": "system", "content": ""},
        {"role": "user", "content": "typed\nspoken"},
        {"role": "user", "content": "heard"},
        {"role": "user", "content": "(inaudible)"},
        {"role": "assistant", "content": '[I called light with {"on": true}]'},
        {"role": "user", "content": "[Result: done]"},
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "(inaudible)"},
    ]


@given(st.text(alphabet="<|>imendstart_ ", max_size=40))
def test_nobody_can_say_the_marks_of_the_template(text: str) -> None:
    *_, message = build_messages(text, [Item("a", Role.USER, (Text(f"x{text}"),))], {})
    assert "<|" not in message["content"]


def test_a_conversation_that_fits_is_left_alone() -> None:
    messages = chat("s", "q1", "a1", "q2")
    assert fit(messages, 100, count, AUTO) == Prompt(messages, count(messages), dropped=0)
    assert fit(chat("s"), 2, count, AUTO) == Prompt(chat("s"), 2, dropped=0)


def test_old_turns_are_left_out_many_at_a_time() -> None:
    """So that the beginning of the prompt, which is resident, changes seldom."""
    begins = []
    for length in range(1, 201, 2):
        turns = [f"{'q' if i % 2 == 0 else 'a'}{i:03}" for i in range(length)]
        prompt = fit(chat("s", *turns), 102, count, AUTO)
        assert prompt.tokens == count(prompt.messages) <= 102
        assert prompt.messages[-1]["content"] == turns[-1]
        assert prompt.dropped == turns.index(prompt.messages[1]["content"])
        if prompt.messages[1] not in begins:
            begins.append(prompt.messages[1])
    # Ten turns of ten tokens fit. Four stay when the next is asked, and seven more fit then.
    assert [int(message["content"][1:]) for message in begins][:4] == [0, 14, 28, 42]
    assert len(begins) == 14


def test_the_last_user_message_and_the_instructions_stay() -> None:
    messages = chat("system", "old", "answer", "question")
    prompt = fit(messages, count(chat("system", "question")), count, AUTO)
    assert prompt.messages == [messages[0], messages[-1]]
    assert prompt.dropped == 2
    with pytest.raises(ContextOverflow, match="16 tokens; 15 are free"):
        fit(messages, count(chat("system", "question")) - 1, count, AUTO)


@given(st.lists(st.text("x", max_size=9), min_size=1, max_size=20), st.integers(0, 60))
def test_the_prompt_is_always_the_instructions_and_the_end(texts: list[str], budget: int) -> None:
    messages = chat("s", *texts)
    last_user = max(i for i, message in enumerate(messages) if message["role"] == "user")
    must = [messages[0], *messages[last_user:]]
    if count(must) > budget:
        with pytest.raises(ContextOverflow):
            fit(messages, budget, count, AUTO)
        return
    prompt = fit(messages, budget, count, AUTO)
    kept = prompt.messages
    assert prompt.tokens == count(kept) <= budget
    assert kept[:1] + kept[-len(must) + 1 :] == must
    assert messages[1 + prompt.dropped :] == kept[1:]


def test_nothing_is_left_out_when_truncation_is_disabled() -> None:
    messages = chat("s", "old", "answer", "question")
    disabled = Truncation(allowed=False)
    assert fit(messages, count(messages), count, disabled) == Prompt(messages, count(messages))
    with pytest.raises(ContextOverflow, match="truncation is disabled"):
        fit(messages, count(messages) - 1, count, disabled)


@pytest.mark.parametrize(("ratio", "kept"), [(1.0, 10), (0.5, 5), (0.0, 1)])
def test_a_retention_ratio_says_how_much_stays(ratio: float, kept: int) -> None:
    """Ten turns fit; the eleventh question makes room."""
    turns = [f"{'q' if i % 2 == 0 else 'a'}{i:03}" for i in range(21)]
    prompt = fit(chat("s", *turns), 102, count, Truncation(retention_ratio=ratio))
    assert prompt.tokens == count(prompt.messages) <= 102
    assert len(prompt.messages) // 2 == kept
