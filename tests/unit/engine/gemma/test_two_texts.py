"""The reply to the translation prompt, however it is cut into pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine.branches import TextDelta
from agent.engine.gemma.two_texts import TwoTexts


def divided(pieces: list[str], target: str = "Spanish") -> tuple[str, str, list[TextDelta]]:
    texts = TwoTexts(target)
    given_ = [delta for piece in pieces for delta in texts.push(piece)] + texts.finish()
    source = "".join(delta.text for delta in given_ if delta.is_source)
    return source, "".join(delta.text for delta in given_ if not delta.is_source), given_


@pytest.mark.parametrize(
    ("reply", "source", "translation"),
    [
        ("3 1 4\nSpanish: tres uno cuatro", "3 1 4", "tres uno cuatro"),
        (" 3 1 4 \n\n Spanish:tres\nuno ", "3 1 4", "tres uno"),
        ("one\ntwo\nSpanish: uno dos", "one two", "uno dos"),
        ("one\nuno", "one", "uno"),
        ("one", "one", ""),
        ("\nSpanish: uno", "", "uno"),
        ("in Spanish: one\nSpanish: en Spanish: uno", "in Spanish: one", "en Spanish: uno"),
        ("one\nSpanis", "one", "Spanis"),
        ("one\nSpanish:", "one", ""),
        ("", "", ""),
    ],
)
def test_both_texts_are_found(reply: str, source: str, translation: str) -> None:
    assert divided([reply])[:2] == (source, translation)
    assert divided(list(reply))[:2] == (source, translation)


def test_text_is_given_as_soon_as_it_is_certain() -> None:
    texts = TwoTexts("German")
    assert texts.push("one ") == [TextDelta("one", is_source=True)]
    assert texts.push("two\n") == [TextDelta(" two", is_source=True)]
    assert texts.push("German") == []
    assert texts.push(": eins") == [TextDelta("eins")]
    assert texts.push(" zwei ") == [TextDelta(" zwei")]
    assert texts.finish() == []


words = st.text(st.sampled_from("ab S:\n"), max_size=20)


@given(words, words, st.booleans(), st.data())
def test_it_does_not_matter_how_the_reply_is_cut(
    source: str, translation: str, marked: bool, data: st.DataObject
) -> None:
    reply = f"{source}\nSpanish: {translation}" if marked else f"{source}\n{translation}"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=6)))
    places = [0, *cuts, len(reply)]
    pieces = [reply[a:b] for a, b in itertools.pairwise(places)]
    got = divided(pieces)
    assert got[:2] == divided([reply])[:2]
    if marked:
        assert got[0].split() == source.split()
        assert got[1].split() == translation.split()
    else:
        assert (got[0] + " " + got[1]).split() == reply.split()
    # All of the source comes before the translation.
    kinds = [delta.is_source for delta in got[2]]
    assert kinds == sorted(kinds, reverse=True)
    assert all(delta.text for delta in got[2])
