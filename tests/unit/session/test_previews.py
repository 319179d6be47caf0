"""The translation of what was said so far, while somebody is still saying it."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.session.commands import StartBranch
from agent.session.passes import SLOW_PASS_S
from agent.session.tokens import BranchFailed
from tests.helpers.translation import TranslationDriver, update

SOURCE = {"input": {"transcription": {"model": "any"}}}
SENTENCE = "one two three four five six seven eight"
SATZ = "eins zwei drei vier fünf sechs sieben acht"


def driver(*, source: bool = True) -> TranslationDriver:
    made = TranslationDriver(while_spoken=True)
    if source:
        made.say(update(**SOURCE))
    return made


def test_what_two_passes_agree_on_is_sent_and_the_whole_goes_on_from_there() -> None:
    one = driver()
    one.audio(1300, 1.0)
    assert one.look("one two", "eins zwei") == []
    one.audio(1300, 1.0)
    sent = one.look("one two three", "eins zwei drei")
    assert [event["delta"] for event in sent] == ["one two", "eins zwei"]
    assert {event["elapsed_ms"] for event in sent} == {2600}
    one.audio(600, 0.0)
    one.text("one two three.", source=True)
    one.text("eins zwei")
    one.text(" drei.")
    one.end()
    assert (one.source, one.translation) == ("one two three.", "eins zwei drei.")
    one.segment(900)
    one.text("four", source=True)
    one.text("vier")
    one.end()
    assert (one.source, one.translation) == ("one two three. four", "eins zwei drei. vier")


def test_what_was_sent_stays_where_the_whole_says_it_otherwise() -> None:
    one = driver(source=False)
    for _ in range(2):
        one.audio(1300, 1.0)
        one.look("a b", "ich habe")
    one.audio(600, 0.0)
    one.text("Ich hatte")
    assert one.translation == "ich habe"
    one.text(" ein Haus")
    one.end()
    assert one.translation == "ich habe ein Haus"
    assert one.source == ""


def test_nothing_is_looked_at_while_an_earlier_segment_waits() -> None:
    one = driver()
    one.segment()
    one.audio(5000, 1.0)
    assert one.looking is None
    one.end()
    one.audio(64, 1.0)
    assert one.looking is not None


def test_a_pass_under_way_is_dropped_with_the_end_of_its_segment() -> None:
    one = driver()
    one.audio(1300, 1.0)
    assert one.looking is not None
    one.audio(600, 0.0)
    assert one.looking is None
    assert len(one.running) == 1


def test_slow_failing_and_broken_passes_show_nothing() -> None:
    one = driver()
    one.audio(1300, 1.0)
    one.look("one", "eins", complete=False)
    one.audio(1300, 1.0)
    assert one.look("one", "eins") == []
    one.audio(1300, 1.0)
    assert one.looking is not None
    branch_id, one.looking = one.looking.branch_id, None
    one.session.receive_tokens(BranchFailed(branch_id, "engine_busy", "no time"), one.now)
    one.audio(1300, 1.0)
    assert [event["delta"] for event in one.look("one", "eins", took_s=SLOW_PASS_S + 1)] == [
        "one",
        "eins",
    ]
    one.audio(5000, 1.0)
    assert one.looking is None
    one.audio(1500, 1.0)  # the engine has rested, and the same segment goes on
    assert one.looking is not None


def test_engines_that_cannot_afford_it_are_not_asked() -> None:
    one = TranslationDriver()
    one.audio(5000, 1.0)
    assert not [command for command in one.commands if isinstance(command, StartBranch)]


words = st.integers(0, 8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words, words), max_size=5), st.data())
def test_passes_that_are_right_as_far_as_they_go_change_nothing(
    heard: list[tuple[int, int]], data: st.DataObject
) -> None:
    """What is sent only grows, and in the end it is the same as without any passes."""
    one = driver()
    before = ("", "")

    def check() -> None:
        nonlocal before
        now = (one.source, one.translation)
        assert all(text.startswith(old) for text, old in zip(now, before, strict=True))
        before = now

    for source, translation in heard:
        one.audio(1300, 1.0)
        if one.looking is not None:
            said = " ".join(SENTENCE.split()[:source])
            one.look(said, " ".join(SATZ.split()[:translation]))
        check()
    one.segment(1300)
    for text, is_source in ((SENTENCE, True), (SATZ, False)):
        cut = data.draw(st.integers(0, len(text)))
        for piece in (text[:cut], text[cut:]):
            one.text(piece, source=is_source)
            check()
    one.end()
    check()
    assert before == (SENTENCE, SATZ)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text("ab ", max_size=8), st.text("ab ", max_size=8)), max_size=5),
    st.text("ab ", max_size=8),
)
def test_texts_only_grow_whatever_passes_say(heard: list[tuple[str, str]], final: str) -> None:
    one = driver()
    texts = [("", "")]
    for source, translation in heard:
        one.audio(1300, 1.0)
        if one.looking is not None:
            one.look(source, translation)
        texts.append((one.source, one.translation))
    one.segment(1300)
    one.text(final, source=True)
    one.text(final)
    one.end()
    texts.append((one.source, one.translation))
    for old, new in itertools.pairwise(texts):
        assert new[0].startswith(old[0])
        assert new[1].startswith(old[1])
