"""Streamed text against the tokenizer's own decoding of all tokens at once."""

from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from agent.engine.gemma.detokenise import Detokeniser, Vocabulary
from agent.engine.gemma.prompts import PromptRenderer, SoftToken
from tests.helpers.gemma_chat import CHAT_TEMPLATE, published_checkpoint
from tests.helpers.tiny_gemma import SPECIAL, tiny_tokenizer


def with_leading_space():
    """Of Llama's kind: a space goes in front when a text is encoded, and is cut off again."""
    pieces = ["▁", "a", "b", "▁a", "▁▁", "é", "�", "<b>"]
    names = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    backend = Tokenizer(
        models.BPE(
            vocab={name: place for place, name in enumerate(names)},
            merges=[("▁", "a"), ("▁", "▁")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    own = tiny_tokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{name: own.special_tokens_map[name] for name in ("bos_token", "eos_token", "pad_token")},
        extra_special_tokens={
            name: own.special_tokens_map[name]
            for name in ("audio_token", "boa_token", "eoa_token", "soc_token", "eoc_token")
        },
        additional_special_tokens=["<|turn>", "<turn|>"],
    )


def opened(tokenizer=None, template=CHAT_TEMPLATE, eos=1):
    checkpoint = published_checkpoint(template, eos=eos)
    if tokenizer is not None:
        tokenizer.chat_template = template
        checkpoint.model.config.audio_token_id = tokenizer.convert_tokens_to_ids("<|audio|>")
        checkpoint = replace(checkpoint, tokenizer=tokenizer)
    return checkpoint.tokenizer, Vocabulary(checkpoint, PromptRenderer(checkpoint))


KINDS = {
    "published": opened(),
    "bytes": opened(tiny_tokenizer()),
    "leading space": opened(with_leading_space()),
}
TOKENIZER, VOCABULARY = KINDS["published"]
SOC, EOC, EOT = TOKENIZER.convert_tokens_to_ids(["<|channel>", "<channel|>", "<turn|>"])

kinds = pytest.mark.parametrize(("tokenizer", "vocabulary"), KINDS.values(), ids=KINDS)


def encode(text, tokenizer=TOKENIZER):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def push_all(ids, vocabulary=VOCABULARY, stop=(), **options):
    """All pieces, the rest included."""
    detokeniser = Detokeniser(vocabulary, stop, **options)
    pieces = []
    for token in ids:
        pieces.append(detokeniser.push(token))
        if pieces[-1].stopped:
            return pieces
    return [*pieces, detokeniser.finish()]


def joined(pieces):
    return "".join(piece.text for piece in pieces)


def without_thoughts(ids, vocabulary):
    kept, thinking = [], False
    for token in ids:
        if token in vocabulary.thought:
            thinking = token == vocabulary.thought[0]
        elif not thinking:
            kept.append(token)
    return kept


@kinds
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_tokens_give_the_text_of_all_at_once(tokenizer, vocabulary, data):
    count = len(tokenizer) + 3
    byte = [token for token in range(count) if vocabulary.is_byte(token)] or [20]
    # Bytes of whole, broken and cut characters, and among them everything there is.
    token = st.one_of(
        st.integers(0, count),
        st.sampled_from([*byte[0x80:0xA0], *byte[0xC3:0xC6], byte[0xE2]])
        if len(byte) == 256
        else st.integers(0, count),
        st.sampled_from(encode("é日😀�", tokenizer)),
    )
    ids = [one for one in data.draw(st.lists(token, max_size=40)) if one not in vocabulary.stops]
    expected = tokenizer.decode(without_thoughts(ids, vocabulary), skip_special_tokens=True)
    assert joined(push_all(ids, vocabulary)) == expected


@kinds
@settings(max_examples=100, deadline=None)
@given(
    text=st.text(
        st.one_of(st.sampled_from(" a\n<b>é日👩🏽\u200d🚀\u0301"), st.characters(codec="utf-8"))
    )
)
def test_any_text_comes_in_whole_characters(tokenizer, vocabulary, text):
    ids = encode(text, tokenizer)
    if any(token in vocabulary.stops for token in ids):
        return
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    pieces = push_all(ids, vocabulary)
    assert joined(pieces) == whole
    for piece, so_far in zip(pieces, accumulate(piece.text for piece in pieces), strict=True):
        assert whole.startswith(so_far)
        assert piece.characters == len(so_far)
        # As many characters as they say come from as many tokens as they say.
        if piece.tokens:
            covered = tokenizer.decode(ids[: piece.tokens], skip_special_tokens=True)
            assert so_far.startswith(covered)


def test_text_comes_as_soon_as_it_is_sure():
    ids = encode("the 日本語 😀🙃 end")
    texts = [piece.text for piece in push_all(ids)]
    assert texts == [
        "the", " ", "日", "本", "", "", "", "語 ", "😀", "", "", "", "", "🙃 ", "en", "d", "",
    ]  # fmt: skip


def test_the_published_kind_keeps_its_leading_space():
    assert joined(push_all(encode(" a  b"))) == " a  b"
    tokenizer, vocabulary = KINDS["leading space"]
    assert joined(push_all(encode(" a  b", tokenizer), vocabulary)) == " a  b"
    between = [*encode("a", tokenizer), vocabulary.thought[1], *encode("a", tokenizer)]
    assert joined(push_all(between, vocabulary)) == "a a"


def test_thoughts_are_not_streamed():
    ids = [
        SOC,
        *encode("thought\nHm 😀"),
        EOC,
        *encode("Yes."),
        SOC,
        *encode("?"),
        EOC,
        *encode("!"),
    ]
    assert joined(push_all(ids)) == "Yes.!"
    assert joined(push_all([SOC, *encode("never ends")])) == ""
    assert joined(push_all([*encode("hm"), EOC, *encode("Yes.")], thinking=True)) == "Yes."


def test_whether_a_prompt_ends_in_a_thought():
    assert not VOCABULARY.thinks([])
    assert not VOCABULARY.thinks([SOC, 7, EOC, 7, SoftToken("a", 1)])
    assert VOCABULARY.thinks([SOC, 7, EOC, SOC, SoftToken("a", 1), 7])


def test_a_tokenizer_without_a_thinking_channel():
    tokenizer = tiny_tokenizer()
    _, vocabulary = opened(tokenizer)
    assert vocabulary.thought == tuple(
        tokenizer.convert_tokens_to_ids(["<|channel>", "<channel|>"])
    )
    tokenizer.soc_token = "<think>"
    _, vocabulary = opened(tokenizer)
    assert vocabulary.thought is None
    assert not vocabulary.thinks([1, 2])
    assert joined(push_all(encode("<think>a", tokenizer), vocabulary)) == "<think>a"


def test_stop_tokens_end_it():
    pieces = push_all([*encode("a 🙃"), EOT, *encode("b")])
    assert joined(pieces) == "a 🙃"
    assert (pieces[-1].text, pieces[-1].stopped, pieces[-1].tokens) == ("🙃", True, 7)
    detokeniser = Detokeniser(VOCABULARY)
    assert detokeniser.push(EOT).stopped
    with pytest.raises(ValueError, match="nothing comes after a stop"):
        detokeniser.push(5)


@pytest.mark.parametrize(("eos", "expected"), [(1, {1}), ([1, 50], {1, 50}), (None, set())])
def test_stop_tokens_are_those_of_the_checkpoint(eos, expected):
    assert opened(eos=eos)[1].stops == expected | {EOT}
    assert opened(eos=eos, template="{{ messages[0]['content'] }}")[1].stops == expected


STOPS = st.lists(st.text("ab é", min_size=1, max_size=4), min_size=1, max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.text("ab é🙃", max_size=20), STOPS)
def test_stop_strings_end_it_before_they_come(text, stops):
    ends = [end for end in range(len(text) + 1) if text[:end].endswith(tuple(stops))]
    expected = text
    if ends:
        longest = max(len(stop) for stop in stops if text[: ends[0]].endswith(stop))
        expected = text[: ends[0] - longest]
    pieces = push_all(encode(text), stop=stops)
    assert joined(pieces) == expected
    assert all(expected.startswith(so_far) for so_far in accumulate(p.text for p in pieces))
    assert pieces[-1].stopped


def test_what_may_become_a_stop_string_is_held_back():
    ids = encode("x##y###z")
    pieces = push_all(ids, stop=["###", ""])
    assert [piece.text for piece in pieces] == ["x", "", "", "##y", "", "", ""]
    assert [piece.stopped for piece in pieces] == [False] * 6 + [True]
    assert [piece.characters for piece in pieces] == [1, 1, 1, 4, 4, 4, 4]
    assert [piece.tokens for piece in pieces] == [1, 1, 1, 4, 4, 4, 7]
    assert joined(push_all(encode("x##"), stop=["###"])) == "x##"


def test_the_stop_string_that_is_complete_first_counts():
    assert len(encode("the")) == 1
    assert joined(push_all(encode("the"), stop=["the", "h"])) == "t"
    assert joined(push_all(encode("t h e"), stop=["t h e", "h"])) == "t "
