"""Conversations as prompts, and what transformers' own processor writes of them."""

from hypothesis import strategies as st

from agent.engine.contract import ConversationSettings
from agent.engine.gemma.prompts import ClipRef, PromptItem, PromptRenderer, SoftToken
from agent.engine.items import Role, Text
from tests.helpers.gemma_chat import clip_samples, published_checkpoint

CHECKPOINT = published_checkpoint()
RENDERER = PromptRenderer(CHECKPOINT)
PLAIN = ConversationSettings()
LAMP = {
    "type": "function",
    "name": "set_lamp",
    "description": "Switch the lamp.",
    "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}},
}


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


QUOTE = '<|"|>'
"""The one control token that the letters of `WORDS` can spell."""


def as_messages(instructions, items):
    """What a caller of the processor would write who lets nobody speak in control tokens."""
    instructions = without_control_tokens(instructions)
    messages = [{"role": "system", "content": instructions}] if instructions else []
    for item in items:
        audio = [
            {"type": "audio", "audio": clip_samples(part.tokens)}
            for part in item.content
            if isinstance(part, ClipRef)
        ]
        text = "\n".join(part.text for part in item.content if isinstance(part, Text))
        text = without_control_tokens(text)
        parts = [*audio, {"type": "text", "text": text}] if text else audio
        messages.append({"role": str(item.role), "content": parts})
    return messages


def without_control_tokens(text):
    """Text that spells none: the processor would read it as one."""
    return text.replace(QUOTE, '< |"|>')


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
