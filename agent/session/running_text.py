"""Texts of segment after segment as one text that only grows."""

from __future__ import annotations

import unicodedata

# Scripts that put no space between words or sentences, by how Unicode names their letters.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "FULLWIDTH", "THAI", "LAO", "KHMER",
             "MYANMAR", "TIBETAN")  # fmt: skip


class RunningText:
    """What was sent so far, as far as its end matters."""

    def __init__(self) -> None:
        self._last = ""
        self._is_new_segment = True

    def next_segment(self) -> None:
        """What comes next belongs to another segment."""
        self._is_new_segment = True

    def grow(self, text: str) -> str:
        """What to send for more text of the present segment; clients add nothing to it.

        A space stands between segments where the script has spaces.
        """
        if self._is_new_segment:
            text = text.lstrip()
            if text and self._last and not self._last.isspace():
                text = f"{_joint(self._last, text[0])}{text}"
        if text:
            self._is_new_segment = False
            self._last = text[-1]
        return text


def _joint(before: str, after: str) -> str:
    """What stands between the end of one segment and the beginning of the next."""
    return "" if _is_unspaced(before) and _is_unspaced(after) else " "


def _is_unspaced(character: str) -> bool:
    return unicodedata.name(character, "").startswith(_UNSPACED)
