"""Word error rates, counted the same way by every test and script.

Both sides go through the normaliser that OpenAI published with Whisper (package
`whisper-normalizer`): lower case, no punctuation, "Mr." = "mister", "ten" = "10", British =
American spelling. Languages other than English get its basic form.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import jiwer
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Counted errors; add them up to weigh long and short recordings by their words.

    Attributes:
        words: Words of the reference.
        substitutions: Words heard as another word.
        deletions: Words not heard.
        insertions: Words heard that were not said.
    """

    words: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        """All three kinds together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per word of the reference (0.034 is 3.4 %); 0 for an empty reference."""
        return self.errors / self.words if self.words else 0.0

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            self.words + other.words,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


def normalise(text: str, language: str = "en") -> str:
    """The words of `text`, separated by single spaces, as they are compared."""
    return " ".join(_normaliser(language)(text).split())


def word_errors(reference: str, heard: str, language: str = "en") -> WordErrors:
    """Compare what was heard with what was said."""
    said, got = normalise(reference, language), normalise(heard, language)
    if not said:
        return WordErrors(insertions=len(got.split()))
    counted = jiwer.process_words(said, got)
    return WordErrors(
        words=len(said.split()),
        substitutions=counted.substitutions,
        deletions=counted.deletions,
        insertions=counted.insertions,
    )


def differences(reference: str, heard: str, language: str = "en") -> list[str]:
    """Where the two differ: `said → heard`, with — for nothing."""
    said, got = normalise(reference, language), normalise(heard, language)
    if not said:
        return [f"— → {got}"] if got else []
    words, heard_words = said.split(), got.split()
    found = []
    parts = jiwer.process_words(said, got).alignments[0]
    for equal, group in itertools.groupby(parts, key=lambda part: part.type == "equal"):
        if not equal:
            run = list(group)
            first, last = run[0], run[-1]
            missed = " ".join(words[first.ref_start_idx : last.ref_end_idx])
            instead = " ".join(heard_words[first.hyp_start_idx : last.hyp_end_idx])
            found.append(f"{missed or '—'} → {instead or '—'}")
    return found


def total(counts: Iterable[WordErrors]) -> WordErrors:
    """The sum over many recordings."""
    return sum(counts, WordErrors())


@cache
def _normaliser(language: str) -> BasicTextNormalizer | EnglishTextNormalizer:
    return EnglishTextNormalizer() if language == "en" else BasicTextNormalizer()
