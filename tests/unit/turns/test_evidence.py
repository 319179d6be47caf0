"""What speaks for the end of a turn, put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.turns.evidence import Evidence, ends_sentence, probability_of_end

PROBABILITY = st.floats(0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("Go forward ten meters.", True),
        ("Is it over? ", True),
        ('He said "stop."', True),
        ("他走了。", True),
        ("and so my fellow", False),
        ("And so, my fellow Americans,", False),
        ("I would like to...", False),
        ("I would like to…", False),
        ("I would like to -", False),
        ("", None),
        ("  ", None),
        (None, None),
    ],
)
def test_the_last_sign_tells_whether_a_sentence_ends(text, ends):
    assert ends_sentence(text) is ends


@given(PROBABILITY)
def test_the_end_of_a_sentence_speaks_for_the_end_of_the_turn(sound):
    goes_on = probability_of_end(Evidence(sound, "and then"))
    alone = probability_of_end(Evidence(sound))
    ends = probability_of_end(Evidence(sound, "That is all."))
    assert 0 <= goes_on <= max(alone, 1e-6)
    assert min(alone, 1 - 1e-6) <= ends <= 1
    assert alone == sound == probability_of_end(Evidence(sound, ""))


@given(PROBABILITY, st.floats(0.01, 1.0))
def test_words_do_not_make_sure_what_the_sound_leaves_open(sound, sure):
    together = probability_of_end(Evidence(sound, "That is all."), sure)
    if sound < sure:
        assert together < sure
    else:
        assert together >= min(sound, 1 - 1e-6)


@given(PROBABILITY, PROBABILITY, st.sampled_from([None, "", "and then", "That is all."]))
def test_the_likelier_by_the_sound_the_likelier(one, other, words):
    less, more = sorted((one, other))
    assert probability_of_end(Evidence(less, words)) <= probability_of_end(Evidence(more, words))


def test_words_alone_say_nothing():
    assert probability_of_end(Evidence(None, "That is all.")) is None
    assert probability_of_end(Evidence()) is None
