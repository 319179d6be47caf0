"""The translation of what was said so far, while somebody is still saying it.

As `agent.session.captions`, for translations: a pass (`agent.session.passes`) is a translation
of the open segment as heard so far; what two passes in a row agree on is sent and never taken
back. The translation of the whole segment goes on from there. Passes are made only for the
segment whose texts come next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.session.commands import BranchPurpose
from agent.session.outbox import NewId, Outbox
from agent.session.passes import Pass, Passes
from agent.session.tokens import BranchText, TokenEvent
from agent.turns.agreement import Agreement

NEW_SPEECH_S = 1.2
"""So much more must have been said for the next pass: some words."""


@dataclass(slots=True)
class Texts:
    """Both texts of a segment as far as they were sent, and as they are being written."""

    source: Agreement = field(default_factory=Agreement)
    translation: Agreement = field(default_factory=Agreement)
    source_text: str = ""
    translation_text: str = ""

    def take(self, event: BranchText) -> tuple[str, str]:
        """More of the final texts; what of each can be sent."""
        if event.is_source:
            self.source_text += event.text
            return self.source.follow(self.source_text), ""
        self.translation_text += event.text
        return "", self.translation.follow(self.translation_text)

    def finish(self) -> tuple[str, str]:
        """The final texts are complete; the rest of each."""
        return self.source.finish(self.source_text), self.translation.finish(self.translation_text)


Show = Callable[[str, str, int], None]
"""Given more of what was said, more of its translation, and the sample up to which they go."""


class Previews:
    """Passes over the open segment of one session.

    Args:
        outbox: Where commands go.
        new_id: Makes branch ids.
        show: Given what can be sent.
    """

    def __init__(self, outbox: Outbox, new_id: NewId, show: Show) -> None:
        self._passes = Passes(BranchPurpose.TRANSLATION, NEW_SPEECH_S, outbox, new_id, self._agree)
        self._show = show
        self._texts = Texts()
        self._start_sample = 0

    def listen(self, heard_samples: int, position_sample: int, now: float) -> None:
        """Start a pass if it is time for one.

        Args:
            heard_samples: So much was heard of the open segment.
            position_sample: Where that ends.
            now: The time, in seconds.
        """
        self._start_sample = position_sample - heard_samples
        self._passes.listen(heard_samples, now)

    def close(self, now: float) -> Texts:
        """The segment is over: what was sent of it, for its final texts to go on from."""
        self._passes.begin(now)
        texts, self._texts = self._texts, Texts()
        return texts

    def receive(self, event: TokenEvent, now: float) -> bool:
        """Take what a branch gave; False when it is no pass that is under way."""
        return self._passes.receive(event, now)

    def _agree(self, ended: Pass) -> None:
        if not ended.source:
            return
        source = self._texts.source.update(ended.source)
        # No translation says nothing about what was translated before.
        translation = self._texts.translation.update(ended.text) if ended.text else ""
        self._show(source, translation, self._start_sample + ended.heard_samples)
