"""Which words of a transcript that is still changing can be shown for good: LocalAgreement-2.

While somebody speaks, what was said so far is recognised again and again. A word is shown
once two passes in a row agree on it and on all words after the ones shown before; what was
shown is never taken back. At the end the rest of the final transcript follows.

    agreement = Agreement()
    agreement.update("my name is John")        # "": one pass alone shows nothing
    agreement.update("My name is Joan Smith")  # "My name is"
    agreement.finish("My name is Joan Smith.")  # " Joan Smith."

Words are compared without case and punctuation. Punctuation after a word is shown with the
next word: recognisers end every pass with a full stop.

Source: Liu, Spanakis, Niehues, "Low-Latency Sequence-to-Sequence Speech Recognition and
Translation by Partial Hypothesis Selection" (Interspeech 2020), 3.2.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# Scripts written without spaces between words: each of their letters counts as a word.
_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff"  # Japanese kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_WORD = re.compile(rf"(?=\w)[{_UNSPACED}]|[^\W{_UNSPACED}](?:[^\s{_UNSPACED}]*[^\W{_UNSPACED}])?")


@dataclass(frozen=True, slots=True)
class _Word:
    """A word: how it is compared, and where it ends in its text."""

    key: str
    end: int


class Agreement:
    """The text shown for one utterance; it only ever grows.

    Attributes:
        shown: All that the methods returned so far, joined.
    """

    def __init__(self) -> None:
        self.shown = ""
        self._last: Sequence[str] = ()

    def update(self, text: str) -> str:
        """Take the next pass over what was said so far.

        Args:
            text: All of it, as it was heard this time.

        Returns:
            What can be shown now, after what was shown before; often nothing.
        """
        text = text.strip()
        words = _words(text)
        keys = [word.key for word in words]
        last, self._last = self._last, keys
        shown = [word.key for word in _words(self.shown)]
        begin = _position_after(shown, keys)
        agreed = _common(keys[begin:], last[_position_after(shown, last) :])
        if not agreed:
            return ""
        start = words[begin - 1].end if begin else 0
        return self._show(text[start : words[begin + agreed - 1].end])

    def follow(self, text: str) -> str:
        """Take the final transcript as far as it is known, as it grows.

        Returns:
            What can be shown now: all that is new, or nothing while it does not go on from
            what was shown.
        """
        text = text.strip()
        return self._show(text[len(self.shown) :]) if text.startswith(self.shown) else ""

    def finish(self, text: str) -> str:
        """Take the final transcript.

        Returns:
            The rest of it. With that, what was shown is the final transcript, except where
            that says otherwise about words that were shown already.
        """
        text = text.strip()
        if text.startswith(self.shown):
            return self.follow(text)
        words = _words(text)
        begin = _position_after(
            [word.key for word in _words(self.shown)], [word.key for word in words]
        )
        return self._show(text[words[begin - 1].end :] if begin else "")

    def _show(self, delta: str) -> str:
        self.shown += delta
        return delta


def _position_after(shown: Sequence[str], keys: Sequence[str]) -> int:
    """How many words of a pass say what was shown, which it may say otherwise."""
    if list(keys[: len(shown)]) == list(shown):
        return len(shown)
    blocks = difflib.SequenceMatcher(None, shown, keys, autojunk=False).get_matching_blocks()
    # The last block is the empty one at both ends.
    same = blocks[-2] if len(blocks) > 1 else difflib.Match(0, 0, 0)
    return min(len(keys), same.b + len(shown) - same.a)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words both begin with."""
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _words(text: str) -> list[_Word]:
    words, position = [], 0
    while (match := _WORD.search(text, position)) is not None:
        position = match.end()
        while position < len(text) and unicodedata.category(text[position]).startswith("M"):
            position += 1  # vowel signs and accents belong to the letter before them
        word = text[match.start() : position]
        key = "".join(char for char in word.casefold() if not _is_punctuation(char))
        words.append(_Word(key or word, position))
    return words


def _is_punctuation(char: str) -> bool:
    return unicodedata.category(char).startswith("P")
