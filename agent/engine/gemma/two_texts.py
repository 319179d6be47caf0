"""The reply to Google's translation prompt, taken apart while it is being written.

    3 1 4
    Spanish: tres uno cuatro

First the words that were said, a line break, the target language's name with a colon, then
the translation (see `agent.engine.gemma.prompts`). Where a model writes more lines before the
name, all of them are what was said; where it leaves the name out, what comes after the first
line break is the translation.
"""

from __future__ import annotations

import re

from agent.engine.branches import TextDelta


class TwoTexts:
    """Divides one reply; whitespace around both texts is left out, line breaks become spaces.

    Args:
        target: The target language's English name.
    """

    def __init__(self, target: str) -> None:
        self._mark = re.compile(rf"\n[ \t]*{re.escape(target)}:")
        self._source = _OneLine()
        self._translation = _OneLine()
        # From the first line break on; None before it.
        self._undecided: str | None = None
        self._has_mark = False

    def push(self, text: str) -> list[TextDelta]:
        """Take more of the reply; gives what is certain."""
        if self._has_mark:
            return self._give(text, is_source=False)
        given: list[TextDelta] = []
        if self._undecided is None:
            first, line_break, text = text.partition("\n")
            given = self._give(first, is_source=True)
            if not line_break:
                return given
            self._undecided = line_break
        self._undecided += text
        mark = self._mark.search(self._undecided)
        if mark is None:
            return given
        self._has_mark = True
        given += self._give(self._undecided[: mark.start()], is_source=True)
        return given + self._give(self._undecided[mark.end() :], is_source=False)

    def finish(self) -> list[TextDelta]:
        """The reply is complete; gives the rest."""
        if self._has_mark or self._undecided is None:
            return []
        return self._give(self._undecided, is_source=False)

    def _give(self, text: str, *, is_source: bool) -> list[TextDelta]:
        line = self._source if is_source else self._translation
        given = line.push(text)
        return [TextDelta(given, is_source=is_source)] if given else []


class _OneLine:
    """Text as it comes, without whitespace around it and without line breaks."""

    def __init__(self) -> None:
        self._has_begun = False
        self._space = ""

    def push(self, text: str) -> str:
        """What of it can be given now."""
        text = self._space + text
        given = text.rstrip()
        self._space = text[len(given) :]
        if not self._has_begun:
            given = given.lstrip()
        self._has_begun = self._has_begun or bool(given)
        return re.sub(r"\s*\n\s*", " ", given)
