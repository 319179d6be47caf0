"""Prompts against transformers' own processor and chat templates."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tokenizers import AddedToken

from agent.engine.contract import (
    ConversationSettings,
    Item,
    Role,
    Speech,
    Text,
    ToolCall,
    ToolResult,
)
from agent.engine.gemma.prompts import (
    ClipRef,
    PromptItem,
    PromptRenderer,
    SoftToken,
    Transcript,
    Translation,
    common_prefix,
    split_at_clip,
)
from agent.errors import ModelStoreError, TemplateFailed, Unsupported
from tests.helpers import gemma_chat
from tests.helpers.gemma_chat import (
    CHAT_TEMPLATE,
    STRICT_TEMPLATE,
    clip_samples,
    published_checkpoint,
    published_processor,
)

CHECKPOINT = published_checkpoint()
RENDERER = PromptRenderer(CHECKPOINT)
PLAIN = ConversationSettings()
LAMP = {
    "type": "function",
    "name": "set_lamp",
    "description": "Switch the lamp.",
    "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}},
}


@pytest.fixture(scope="module")
def processor():
    try:
        return published_processor(CHECKPOINT.tokenizer)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


def user(*content):
    return PromptItem(Role.USER, tuple(Text(p) if isinstance(p, str) else p for p in content))


def assistant(text):
    return PromptItem(Role.ASSISTANT, (Text(text),))


def tools(*content, role=Role.ASSISTANT):
    return PromptItem(role, content)


def text_of(prompt):
    """A prompt as text, a soft token as its clip and index."""
    return "".join(
        f"({token.clip}{token.index})"
        if isinstance(token, SoftToken)
        else CHECKPOINT.tokenizer.decode([token])
        for token in prompt
    )


def as_messages(instructions, items):
    """What a caller of the processor would write."""
    messages = [{"role": "system", "content": instructions}] if instructions else []
    for item in items:
        audio = [
            {"type": "audio", "audio": clip_samples(part.tokens)}
            for part in item.content
            if isinstance(part, ClipRef)
        ]
        text = "\n".join(part.text for part in item.content if isinstance(part, Text))
        parts = [*audio, {"type": "text", "text": text}] if text else audio
        messages.append({"role": str(item.role), "content": parts})
    return messages


def check_against_processor(processor, instructions, items, renderer=RENDERER):
    prompt = renderer.render(ConversationSettings(instructions), items)
    expected = processor.apply_chat_template(
        as_messages(instructions, items),
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
    )["input_ids"][0]
    plain = [renderer.audio_id if isinstance(token, SoftToken) else token for token in prompt]
    assert plain == list(expected)
    clips = [part for item in items for part in item.content if isinstance(part, ClipRef)]
    soft = [token for token in prompt if isinstance(token, SoftToken)]
    assert soft == [SoftToken(c.clip, i) for c in clips for i in range(c.tokens)]


CONVERSATIONS = {
    "text": [user("What is the time?")],
    "audio": [user(ClipRef("a", 7))],
    "media first": [user("Listen:", ClipRef("a", 3), "And?")],
    "several clips": [user(ClipRef("a", 750), ClipRef("b", 1), ClipRef("c", 12), "All three.")],
    "turns": [
        user(ClipRef("a", 5)),
        assistant("Three  o'clock.\n\nAnything else?"),
        user("No\n\n\nthanks <b>very</b> much", ClipRef("b", 2)),
        assistant(" 日本語 😀🙃 "),
        user(ClipRef("c", 4)),
    ],
    "two in a row": [user("a"), user(ClipRef("a", 2)), assistant("b"), assistant("c")],
    "system in between": [user("a"), PromptItem(Role.SYSTEM, (Text("Be brief."),)), user("b")],
}


@pytest.mark.parametrize("instructions", ["", "You are kind.\n\nVery kind. "])
@pytest.mark.parametrize("items", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_as_the_processor_writes_it(processor, instructions, items):
    check_against_processor(processor, instructions, items)


WORDS = st.text(
    st.sampled_from("the user\n\t <>|\"'éß日😀🙃\u200d"), min_size=1, max_size=30
).filter(lambda text: text.strip())


@st.composite
def conversations(draw):
    names = iter(range(1000))
    items = []
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            items.append(assistant(draw(WORDS)))
            continue
        lengths = draw(st.lists(st.integers(1, 9), max_size=3))
        texts = draw(st.lists(WORDS, min_size=0 if lengths else 1, max_size=2))
        clips = [ClipRef(next(names), length) for length in lengths]
        items.append(user(*draw(st.permutations([*texts, *clips]))))
        order = [part for part in items[-1].content if isinstance(part, ClipRef)]
        assert sorted(order, key=lambda part: part.clip) == clips
    return draw(st.one_of(st.just(""), WORDS)), items


@settings(max_examples=60, deadline=None)
@given(conversation=conversations())
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


def test_a_transcript_is_asked_about_the_clips_of_one_item_only():
    item = user(ClipRef("a", 1), ClipRef("b", 1), "Answer me!")
    prompt = RENDERER.render(
        ConversationSettings("Be kind.", (LAMP,)), [user("before"), item], Transcript()
    )
    assert text_of(prompt) == (
        "<bos><|turn>user\n<|audio>(a0)<audio|><|audio>(b0)<audio|>"
        "Transcribe the following speech segment in its original language.\n\n"
        "Follow these specific instructions for formatting the answer:\n"
        "* Only output the transcription, with no newlines.\n"
        "* When transcribing numbers, write the digits, i.e. write 1.7 and not one point seven, "
        "and write 3 instead of three."
        "<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
    )


@pytest.mark.parametrize("language", ["de", "de-CH", "de_AT", "German", "german"])
def test_a_transcript_in_a_language(language):
    prompt = RENDERER.render(PLAIN, [user(ClipRef("a", 1))], Transcript(language))
    assert "Transcribe the following speech segment in German into German text.\n" in text_of(
        prompt
    )


def test_a_language_without_a_name_is_left_to_the_model():
    prompt = RENDERER.render(PLAIN, [user(ClipRef("a", 1))], Transcript("zzz"))
    assert "in its original language." in text_of(prompt)


def test_a_transcript_in_its_context_shares_what_came_before():
    items = [user("before"), assistant("yes"), user(ClipRef("a", 3), "Answer me!")]
    kind = ConversationSettings("Be kind.")
    answer = RENDERER.render(kind, items)
    transcript = RENDERER.render(kind, items, Transcript(in_context=True))
    assert split_at_clip(answer, "a")[0] == split_at_clip(transcript, "a")[0]
    assert "Transcribe" in text_of(split_at_clip(transcript, "a")[1])
    assert "Answer me" not in text_of(transcript)


def test_a_translation():
    prompt = RENDERER.render(PLAIN, [user(ClipRef("a", 1))], Translation("en", "Spanish"))
    assert text_of(split_at_clip(prompt, "a")[1]).startswith(
        "<audio|>Transcribe the following speech segment in English, then translate it into "
        "Spanish.\nWhen formatting the answer, first output the transcription in English, then "
        "one newline, then output the string 'Spanish: ', then the translation in Spanish.<turn|>"
    )
    with pytest.raises(Unsupported, match="'zz'"):
        RENDERER.render(PLAIN, [user(ClipRef("a", 1))], Translation("zz", "es"))


def test_only_speech_can_be_transcribed():
    with pytest.raises(ValueError, match="needs an item with clips"):
        RENDERER.render(PLAIN, [user(ClipRef("a", 1)), user("typed")], Transcript())
    with pytest.raises(ValueError, match="needs an item with clips"):
        RENDERER.render(PLAIN, [], Transcript())


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


def test_tools_as_the_template_writes_them():
    items = [
        user("Light!"),
        tools(ToolCall("1", "set_lamp", '{"on": true}'), ToolCall("2", "beep", "loud")),
        tools(ToolResult("1", '{"done": true}'), role=Role.TOOL),
        tools(ToolResult("2", "beeped"), role=Role.TOOL),
    ]
    asked = ConversationSettings(tools=(LAMP,))
    declared = (
        '<bos><|turn>system\n<|tool>declaration:set_lamp{description:<|"|>Switch the lamp.<|"|>,'
        'parameters:{properties:{on:{type:<|"|>boolean<|"|>}},type:<|"|>object<|"|>}}<tool|><turn|>'
        "\n<|turn>user\nLight!<turn|>\n<|turn>model\n"
        "<|tool_call>call:set_lamp{on:true}<tool_call|><|tool_call>call:beep{loud}<tool_call|>"
    )
    responses = (
        "<|tool_response>response:set_lamp{done:true}<tool_response|>"
        '<|tool_response>response:beep{value:<|"|>beeped<|"|>}<tool_response|>'
    )
    thought = "<|channel>thought\n<channel|>"
    assert text_of(RENDERER.render(asked, items)) == declared + responses + thought
    # The same turn goes on after the responses.
    said = [*items, assistant("It is on."), user("Thanks.")]
    assert text_of(RENDERER.render(asked, said)) == (
        f"{declared}{responses}It is on.<turn|>\n<|turn>user\nThanks.<turn|>\n"
        f"<|turn>model\n{thought}"
    )
    # Who speaks while a tool works does not part the call from its result.
    between = [*items[:2], user("Well?"), *items[2:]]
    assert text_of(RENDERER.render(asked, between)).startswith(declared + responses)


def test_tools_as_the_processor_writes_them(processor):
    items = [
        user("Light!", ClipRef("a", 2)),
        tools(ToolCall("1", "set_lamp", '{"on": true, "rooms": ["hall", 2]}')),
        tools(ToolResult("1", "done"), role=Role.TOOL),
        assistant("It is on."),
        user(ClipRef("b", 3)),
    ]
    call = {"name": "set_lamp", "arguments": {"on": True, "rooms": ["hall", 2]}}
    audio = [{"type": "audio", "audio": clip_samples(tokens)} for tokens in (2, 3)]
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [audio[0], {"type": "text", "text": "Light!"}]},
        {
            "role": "assistant",
            "tool_calls": [{"type": "function", "function": call}],
            "tool_responses": [{"name": "set_lamp", "response": "done"}],
            "content": "It is on.",
        },
        {"role": "user", "content": [audio[1]]},
    ]
    expected = processor.apply_chat_template(
        messages,
        tools=[{"type": "function", "function": {k: v for k, v in LAMP.items() if k != "type"}}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
    )["input_ids"][0]
    prompt = RENDERER.render(ConversationSettings("Be kind.", (LAMP,)), items)
    plain = [RENDERER.audio_id if isinstance(token, SoftToken) else token for token in prompt]
    assert plain == list(expected)


@settings(max_examples=40, deadline=None)
@given(conversations())
def test_a_conversation_only_grows(conversation):
    instructions, items = conversation
    asked = ConversationSettings(instructions)
    before = RENDERER.render(asked, items)
    after = RENDERER.render(asked, [*items, assistant("x"), user("y")])
    asking = text_of(before).removesuffix("<|channel>thought\n<channel|>")
    assert text_of(after[: common_prefix(before, after)]) == asking


def test_results_as_messages_of_their_own():
    template = (
        "{{ bos_token }}{% for m in messages %}{{ '<|turn>' + m['role'] + ':' }}"
        "{% for c in m['tool_calls'] or [] %}{{ c['function']['name'] }}({{ c['id'] }})"
        "{% endfor %}{{ m['content'] }}"
        "{{ '=' + m['tool_call_id'] if m['tool_call_id'] }}{{ '<turn|>' }}{% endfor %}"
    )
    renderer = PromptRenderer(published_checkpoint(template))
    items = [
        user("Light!"),
        tools(ToolCall("1", "set_lamp", "{}")),
        user("Well?"),
        tools(ToolResult("1", "done"), role=Role.TOOL),
        assistant("It is on."),
    ]
    assert text_of(renderer.render(PLAIN, items)) == (
        "<bos><|turn>user:Light!<turn|><|turn>assistant:set_lamp(1)<turn|>"
        "<|turn>tool:done=1<turn|><|turn>user:Well?<turn|><|turn>assistant:It is on.<turn|>"
    )


def test_a_result_without_its_call_is_text():
    prompt = RENDERER.render(PLAIN, [tools(ToolResult("gone", "42"), role=Role.TOOL)])
    assert "<|turn>user\n[Result: 42]<turn|>" in text_of(prompt)


def test_a_template_without_tools_says_so():
    renderer = PromptRenderer(published_checkpoint(STRICT_TEMPLATE))
    with pytest.raises(Unsupported, match="template of a/checkpoint has no place for tools"):
        renderer.render(ConversationSettings(tools=(LAMP,)), [user("a")])
    with pytest.raises(Unsupported, match="no place for tool calls"):
        renderer.render(PLAIN, [user("a"), tools(ToolCall("1", "set_lamp", "{}"))])


def test_a_template_that_wants_turns_by_turns_gets_them():
    renderer = PromptRenderer(published_checkpoint(STRICT_TEMPLATE))
    items = [
        user("a", ClipRef("x", 1)),
        user("b"),
        user(ClipRef("y", 2)),
        assistant("c"),
        assistant("d"),
        user(ClipRef("z", 1)),
    ]
    assert text_of(renderer.render(ConversationSettings("Be kind."), items)) == (
        "<bos><|turn>system\nBe kind.<turn|>\n"
        "<|turn>user\n<|audio>(x0)<audio|><|audio>(y0)(y1)<audio|>a\nb<turn|>\n"
        "<|turn>assistant\nc\nd<turn|>\n<|turn>user\n<|audio>(z0)<audio|><turn|>\n"
        "<|turn>assistant\n"
    )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            "{{ raise_exception('roles must rhyme') if messages[0]['content'] == 'a' }}",
            "must rhyme",
        ),
        ("{{ messages[0]['content'] + 1 }}", "TypeError"),
        ("{{ messages[0].nothing.at_all }}", "UndefinedError"),
        ("{{ messages[7]['content']['x'] }}", "UndefinedError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{% for", "TemplateSyntaxError"),
    ],
)
def test_a_template_that_fails_says_so(broken, message):
    renderer = PromptRenderer(published_checkpoint(broken))
    with pytest.raises(TemplateFailed, match=rf"chat template of a/checkpoint.*{message}"):
        renderer.render(PLAIN, [user("a")])


def test_a_template_that_leaves_a_clip_out_says_so():
    text_only = CHAT_TEMPLATE.replace("{{ '<|audio|>' }}", "")
    renderer = PromptRenderer(published_checkpoint(text_only))
    assert renderer.render(PLAIN, [user("a")]) == RENDERER.render(PLAIN, [user("a")])
    with pytest.raises(TemplateFailed, match="wrote 0 clips of 2"):
        renderer.render(PLAIN, [user(ClipRef("a", 1), ClipRef("b", 1))])


def test_where_special_tokens_take_their_surroundings_along_texts_are_not_cut():
    checkpoint = published_checkpoint()
    tokenizer = checkpoint.tokenizer
    for token, added in list(tokenizer.added_tokens_decoder.items()):
        if added.special:
            wide = AddedToken(added.content, special=True, rstrip=True)
            tokenizer.add_tokens([wide], special_tokens=True)
            assert tokenizer.added_tokens_decoder[token].rstrip
    items = CONVERSATIONS["turns"]
    prompt = PromptRenderer(checkpoint).render(ConversationSettings("Be kind."), items)
    text = tokenizer.apply_chat_template(
        as_messages("Be kind.", items), tokenize=False, add_generation_prompt=True
    )
    text = text.replace("<|audio|>", "<|audio><|audio|><audio|>")
    ids = [t for t in prompt if not isinstance(t, SoftToken) or t.index == 0]
    assert [RENDERER.audio_id if isinstance(token, SoftToken) else token for token in ids] == (
        tokenizer(text, add_special_tokens=False)["input_ids"]
    )
    assert len(ids) < len(RENDERER.render(ConversationSettings("Be kind."), items))


def test_a_tokenizer_that_cannot_hear_is_refused(monkeypatch):
    checkpoint = published_checkpoint()
    checkpoint.model.config.audio_token_id = 7
    with pytest.raises(ModelStoreError, match="writes audio as token 400, its model reads 7"):
        PromptRenderer(checkpoint)
    monkeypatch.setattr(gemma_chat, "SPECIAL", ["<|turn>"])
    checkpoint.tokenizer.boa_token = None
    with pytest.raises(ModelStoreError, match="no tokens for audio"):
        PromptRenderer(checkpoint)


def test_the_end_of_a_turn_is_read_from_the_template():
    assert RENDERER.end_of_turn() == CHECKPOINT.tokenizer.convert_tokens_to_ids("<turn|>")
    other = CHAT_TEMPLATE.replace("<turn|>", "<|video|>")
    checkpoint = published_checkpoint(other)
    token = checkpoint.tokenizer.convert_tokens_to_ids("<|video|>")
    assert PromptRenderer(checkpoint).end_of_turn() == token
    without = published_checkpoint("{{ messages[-1]['content'] }}\n")
    assert PromptRenderer(without).end_of_turn() is None
