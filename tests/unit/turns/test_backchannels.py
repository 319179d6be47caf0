"""Which words let an answer go on."""

from __future__ import annotations

import pytest

from agent.turns.backchannels import PHRASES, is_backchannel


@pytest.mark.parametrize(
    "said",
    [
        *("", " ", "...", "♪♪", "(coughs)", "[laughter]", "*sigh*"),
        *("1.0.1.1.1.1.1.", "o o o o o o o", "you", "I"),
        *("Mhm.", "Mm-hmm", "Hmm", "Uh-huh.", "uh huh", "Ah!", "Aha.", "Oh.", "mmm"),
        *("Haha.", "Ha ha!", "Hehe", "ahaha", "Jajaja"),
        *("Yes.", "Yes, yes.", "Yeah, right.", "OK, got it.", "Thank you.", "I see."),
        *("Ja, genau.", "Ach so.", "Alles klar!", "Ja ja ja"),
        *("Oui, oui.", "D'accord.", "C'est ça.", "Tout à fait", "Voilà"),
        *("Sí, sí.", "Claro que sí.", "Vale.", "De acuerdo."),
    ],
)
def test_backchannels(said):
    assert is_backchannel(said)


@pytest.mark.parametrize(
    "said",
    [
        *("He", "Stop.", "No.", "Wait a moment", "What?", "Yes, but why?", "Okay stop", "Hm, no"),
        *("yes yes yes yes yes yes", "I want", "Hello?", "112"),
        *("Nein.", "Warte mal", "Halt!", "Non, attends", "Espera", "Pero", "Was?"),
    ],
)
def test_anything_else(said):
    assert not is_backchannel(said)


def test_a_language_that_is_known_counts_alone():
    assert is_backchannel("Genau.", "de-AT")
    assert not is_backchannel("Genau.", "en")
    assert is_backchannel("Mhm.", "en")
    # Of a language without a list all lists count.
    assert is_backchannel("Okay.", "tlh")


@pytest.mark.parametrize("language", PHRASES)
def test_all_phrases_are_written_as_they_are_compared(language):
    for phrase in PHRASES[language]:
        assert is_backchannel(phrase, language), phrase
