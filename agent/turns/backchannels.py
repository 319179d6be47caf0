"""Words that mean "go on": said over an answer they neither stop it nor ask for another.

Short lists for the languages that are spoken most to this server; of an unknown language all
of them count. Hums and laughter are the same everywhere. What a recogniser writes for a sound
that is no speech, such as `(coughs)` or nothing at all, is a backchannel too.
"""

from __future__ import annotations

import re
import unicodedata

MOST_WORDS = 5
"""More words than that are a turn, whatever they are."""

_HUM = re.compile(
    r"(m+h+m+|h*m+|m+h+|(u+h+)+|h+u+h+|a+h+a*|o+h+o*|e+h+m*|ä+h*m*|e+u+h+|hein"
    r"|a?(ha)+h?|(he){2,}h?|(ja){3,})"
)
# Recognisers write sounds that are no speech as (coughs), [laughter], *sighs* or ♪.
_ASIDE = re.compile(r"\([^)]*\)|\[[^\]]*\]|\*[^*]*\*")


def _phrases_of(text: str) -> frozenset[str]:
    return frozenset(text.split(", "))


PHRASES: dict[str, frozenset[str]] = {
    "en": _phrases_of(
        "yes, yeah, yep, yup, ya, okay, ok, kay, right, sure, exactly, indeed, true, good, great, "
        "nice, cool, fine, wow, really, alright, all right, i see, got it, of course, uh huh, "
        "absolutely, definitely, thanks, thank you, oh, ah, hm, huh, "
        "i, you"  # what Whisper hears when somebody clears their throat
    ),
    "de": _phrases_of(
        "ja, jo, jep, okay, ok, genau, klar, richtig, stimmt, gut, schön, super, toll, aha, ach, "
        "ach so, achso, alles klar, verstehe, ich verstehe, natürlich, sicher, eben, echt, krass, "
        "na klar, danke, oh, so so"
    ),
    "fr": _phrases_of(
        "oui, ouais, ouaip, okay, ok, d accord, daccord, bien, très bien, bien sûr, exact, "
        "exactement, voilà, c est ça, je vois, ah oui, ah bon, super, parfait, merci, tout à fait, "
        "oh, bon, si"
    ),
    "es": _phrases_of(
        "sí, si, vale, okay, ok, claro, claro que sí, bien, muy bien, bueno, exacto, exactamente, "
        "ya, ya veo, entiendo, de acuerdo, ajá, perfecto, genial, cierto, gracias, oh, eso es, "
        "por supuesto"
    ),
}


def is_backchannel(text: str, language: str | None = None) -> bool:
    """Whether all that was said means "go on", or nothing.

    Args:
        text: The words, as a recogniser writes them.
        language: BCP-47 code of the speech, or None when it is not known.
    """
    words = _words(text)
    return len(words) <= MOST_WORDS and _is_made_of(words, _phrases(language))


def _words(text: str) -> list[str]:
    text = _ASIDE.sub(" ", unicodedata.normalize("NFC", text).casefold())
    words = re.findall(r"[^\W\d_]+|\d+", text)
    # Of coughs and hums Whisper makes "1.0.1.1.1.1" and "o o o o o o".
    is_noise = len(words) > 3 and len(set(words)) <= 3 and all(len(word) == 1 for word in words)
    return [] if is_noise else words


def _phrases(language: str | None) -> frozenset[str]:
    base = (language or "").casefold().partition("-")[0]
    known = PHRASES.get(base)
    return known if known is not None else frozenset().union(*PHRASES.values())


def _is_made_of(words: list[str], phrases: frozenset[str]) -> bool:
    """Whether the words are hums and phrases, one after the other."""
    if not words:
        return True
    if _HUM.fullmatch(words[0]) and _is_made_of(words[1:], phrases):
        return True
    return any(
        " ".join(words[:count]) in phrases and _is_made_of(words[count:], phrases)
        for count in range(1, min(3, len(words)) + 1)
    )
