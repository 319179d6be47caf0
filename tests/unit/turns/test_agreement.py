from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.turns.agreement import Agreement, _words

words = st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=6)
sentences = st.lists(words, min_size=1, max_size=12)
speech = st.text(
    st.sampled_from(list("abAB .,'-?!1\n")) | st.characters(categories=["L", "M", "P", "Z"]),
    max_size=30,
)


def test_a_word_is_shown_once_two_passes_agree():
    agreement = Agreement()
    assert agreement.update("my name is John") == ""
    assert agreement.update("My name is Joan Smith") == "My name is"
    assert agreement.update("My name is Joan Smith and") == " Joan Smith"
    assert agreement.finish("My name is Joan Smith and I sing.") == " and I sing."
    assert agreement.shown == "My name is Joan Smith and I sing."


def test_a_full_stop_waits_for_the_next_word():
    agreement = Agreement()
    agreement.update("That is it.")
    assert agreement.update("That is it.") == "That is it"
    agreement.update("That is it. Now go.")
    assert agreement.update("That is it. Now go.") == ". Now go"


def test_passes_that_disagree_show_nothing():
    agreement = Agreement()
    assert [agreement.update(text) for text in ("one", "won", "one", "won")] == [""] * 4
    assert agreement.finish("one") == "one"


def test_silence_in_between_shows_nothing_and_breaks_the_row():
    agreement = Agreement()
    assert [agreement.update(text) for text in ("yes", "", "yes")] == [""] * 3


def test_words_that_were_shown_and_are_now_heard_otherwise_stay():
    agreement = Agreement()
    agreement.update("I scream for")
    assert agreement.update("I scream for") == "I scream for"
    agreement.update("Ice cream for everybody here")
    assert agreement.update("Ice cream for everybody here now") == " everybody here"
    assert agreement.finish("Ice cream for everybody here, now!") == ", now!"
    assert agreement.shown == "I scream for everybody here, now!"


def test_a_word_more_before_what_was_shown_moves_the_rest():
    agreement = Agreement()
    agreement.update("went home")
    agreement.update("went home")
    agreement.update("I went home early")
    assert agreement.update("I went home early today") == " early"


def test_a_final_transcript_that_is_shorter_adds_nothing_but_its_end():
    agreement = Agreement()
    agreement.update("so it goes on")
    agreement.update("so it goes on")
    assert agreement.finish("So it goes.") == "."
    assert Agreement().finish("  ") == ""


def test_scripts_without_spaces_are_shown_letter_by_letter():
    agreement = Agreement()
    agreement.update("今天天汽")
    assert agreement.update("今天天气很好。") == "今天天"
    agreement.update("ที่นี่")
    assert [word.end for word in _words("ที่นี่")] == [3, 6]


def test_marks_stay_with_their_letters():
    assert [word.key for word in _words("हिन्दी में बोलो।")] == ["हिन्दी", "में", "बोलो"]


def test_the_final_transcript_is_followed_as_it_grows():
    agreement = Agreement()
    assert [agreement.follow(text) for text in (" He", " Hello ", " Hello wor")] == [
        "He",
        "llo",
        " wor",
    ]
    assert agreement.finish(" Hello world. ") == "ld."
    assert agreement.shown == "Hello world."


@given(passes=st.lists(speech, max_size=8), final=speech)
def test_text_only_grows_and_a_pass_alone_shows_nothing(passes: list[str], final: str):
    agreement = Agreement()
    shown = ""
    for number, text in enumerate(passes):
        shown += agreement.update(text)
        assert agreement.shown == shown
        if number == 0:
            assert shown == ""
    known = shown
    shown += agreement.finish(final)
    assert agreement.shown == shown
    assert shown.startswith(known)


@given(passes=st.lists(speech, max_size=8))
def test_only_words_that_two_passes_in_a_row_have_are_shown(passes: list[str]):
    agreement = Agreement()
    last: list[str] = []
    for text in passes:
        keys = [word.key for word in _words(text)]
        new = [word.key for word in _words(agreement.update(text))]
        assert all(key in keys and key in last for key in new)
        last = keys


@given(sentence=sentences, cuts=st.lists(st.integers(0, 12), max_size=8))
def test_stable_passes_end_as_the_final_transcript_in_whole_words(
    sentence: list[str], cuts: list[int]
):
    final = " ".join(sentence) + "."
    agreement = Agreement()
    for cut in sorted(cuts):
        agreement.update(" ".join(sentence[:cut]))
        shown = agreement.shown.split()
        assert shown == sentence[: len(shown)]
    agreement.finish(final)
    assert agreement.shown == final


@pytest.mark.parametrize("pieces", [["Hel", "lo  wo", "rld"], ["", " x"], [" "]])
@given(data=st.data())
def test_a_final_transcript_streamed_in_any_pieces_is_shown_whole(
    pieces: list[str], data: st.DataObject
):
    pieces = pieces + data.draw(st.lists(speech, max_size=5))
    agreement, text, shown = Agreement(), "", ""
    for piece in pieces:
        text += piece
        shown += agreement.follow(text)
    shown += agreement.finish(text)
    assert shown == text.strip()
