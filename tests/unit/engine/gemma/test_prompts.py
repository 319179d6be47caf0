"""Prompts of whole conversations against transformers' own processor and chat templates."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")


from agent.engine.contract import ConversationSettings
from agent.engine.gemma.prompts import (
    ClipRef,
    PromptItem,
    PromptRenderer,
    SoftToken,
    common_prefix,
    split_at_clip,
)
from agent.engine.items import Item, Role, Speech, Text, ToolCall, ToolResult
from tests.helpers.gemma_prompts import (
    CHECKPOINT,
    CONVERSATIONS,
    LAMP,
    PLAIN,
    QUOTE,
    RENDERER,
    assistant,
    check_against_processor,
    conversations,
    text_of,
    tools,
    user,
)


@pytest.mark.parametrize("instructions", ["", "You are kind.\n\nVery kind. "])
@pytest.mark.parametrize("items", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_as_the_processor_writes_it(processor, instructions, items):
    check_against_processor(processor, instructions, items)


@settings(max_examples=60, deadline=None)
@given(conversation=conversations())
@example(conversation=("", [assistant(QUOTE)]))
def test_any_conversation_as_the_processor_writes_it(processor, conversation):
    check_against_processor(processor, *conversation)


def test_what_was_encoded_before_does_not_matter(processor, monkeypatch):
    monkeypatch.setattr("agent.engine.gemma.prompts._KEPT_CHARACTERS", 40)
    renderer = PromptRenderer(CHECKPOINT)
    for items in [*CONVERSATIONS.values(), *CONVERSATIONS.values()]:
        check_against_processor(processor, "Be kind.", items, renderer)


@settings(max_examples=60, deadline=None)
@given(conversations(), st.integers(1, 40), st.integers(1, 40), st.data())
def test_an_opening_does_not_depend_on_the_length_of_its_clip(conversation, one, other, data):
    instructions, items = conversation
    earlier = data.draw(st.lists(st.integers(1, 4), max_size=2))
    clips = [ClipRef(f"earlier {n}", length) for n, length in enumerate(earlier)]
    asked = ConversationSettings(instructions)
    split = [
        split_at_clip(RENDERER.render(asked, [*items, user(*clips, ClipRef("open", n))]), "open")
        for n in (one, other)
    ]
    assert split[0] == split[1]
    opening, closing = split[0]
    assert text_of(opening).endswith("<|audio>")
    assert text_of(closing) == "<audio|><turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
    whole = RENDERER.render(asked, [*items, user(*clips, ClipRef("open", one))])
    assert whole == [*opening, *(SoftToken("open", n) for n in range(one)), *closing]


def test_a_clip_that_is_not_there_cannot_be_split_at():
    with pytest.raises(ValueError, match="'b' is not in the prompt"):
        split_at_clip(RENDERER.render(PLAIN, [user(ClipRef("a", 2))]), "b")
    with pytest.raises(ValueError, match="'a' is not in the prompt"):
        split_at_clip(RENDERER.render(PLAIN, [user(ClipRef("a", 0))]), "a")


TOKENS = st.lists(
    st.one_of(st.integers(0, 2), st.builds(SoftToken, st.just("a"), st.integers(0, 2)))
)


@given(TOKENS, TOKENS, TOKENS)
def test_the_common_prefix_is_the_longest(same, one, other):
    one, other = [*same, *one], [*same, *other]
    length = common_prefix(one, other)
    assert one[:length] == other[:length]
    assert one[length : length + 1] != other[length : length + 1] or length == len(one) == len(
        other
    )
    assert common_prefix(other, one) == length


def test_an_item_without_its_clips_is_read_from_its_transcript():
    spoken = Item("i", Role.USER, (Speech((b"\0\0",), "Hello there."), Text("Typed.")))
    assert PromptItem.of(spoken) == user("Hello there.", "Typed.")
    assert PromptItem.of(spoken, [ClipRef("a", 2)]) == user(ClipRef("a", 2), "Typed.")
    assert PromptItem.of(Item("i", Role.USER, (Speech((), ""),))) == user("(inaudible)")
    assert "user\nHello there.\nTyped.<turn|>" in text_of(
        RENDERER.render(PLAIN, [PromptItem.of(spoken)])
    )


def test_items_without_words_are_left_out():
    assert RENDERER.render(PLAIN, [user(""), user("a")]) == RENDERER.render(PLAIN, [user("a")])


def test_an_empty_conversation_can_be_answered():
    prompt = text_of(RENDERER.render(PLAIN, []))
    assert prompt == "<bos><|turn>system\n<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"


MARKS = [token.content for token in CHECKPOINT.tokenizer.added_tokens_decoder.values()]
MARKUP = st.lists(st.sampled_from([*MARKS, "<|tu", "rn>", "a"]), max_size=6).map("".join)


@given(MARKUP, MARKUP, MARKUP)
def test_what_people_say_is_never_markup(one, two, three):
    def marks(*texts):
        instructions, said, result = (f"x{text}x" for text in texts)
        items = [
            user(said, ClipRef("a", 1)),
            tools(ToolCall("c", "set_lamp", json.dumps({"on": said}))),
            tools(ToolResult("c", result), role=Role.TOOL),
            assistant(said),
        ]
        tool = {**LAMP, "description": said}
        prompt = RENDERER.render(ConversationSettings(instructions, (tool,)), items)
        return [token for token in prompt if token in RENDERER.special]

    assert marks(one, two, three) == marks("", "", "")


def test_tags_that_are_tokens_but_no_control_tokens_stay():
    prompt = RENDERER.render(PLAIN, [user("<b>a\n\nb")])
    assert {CHECKPOINT.tokenizer.convert_tokens_to_ids(name) for name in ("<b>", "\n\n")} < set(
        prompt
    )


@settings(max_examples=40, deadline=None)
@given(conversations())
def test_a_conversation_only_grows(conversation):
    instructions, items = conversation
    asked = ConversationSettings(instructions)
    before = RENDERER.render(asked, items)
    after = RENDERER.render(asked, [*items, assistant("x"), user("y")])
    asking = text_of(before).removesuffix("<|channel>thought\n<channel|>")
    assert text_of(after[: common_prefix(before, after)]) == asking
