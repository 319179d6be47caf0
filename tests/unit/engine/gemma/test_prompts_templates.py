"""Templates and tokenizers that are not as the published ones are."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tokenizers import AddedToken

from agent.engine.contract import ConversationSettings
from agent.engine.gemma.prompts import ClipRef, PromptRenderer, SoftToken
from agent.errors import ModelStoreError, TemplateFailed
from tests.helpers import gemma_chat
from tests.helpers.gemma_chat import CHAT_TEMPLATE, STRICT_TEMPLATE, published_checkpoint
from tests.helpers.gemma_prompts import (
    CHECKPOINT,
    CONVERSATIONS,
    PLAIN,
    RENDERER,
    as_messages,
    assistant,
    text_of,
    user,
)


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
