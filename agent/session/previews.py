"""The translation of what was said so far, while somebody is still saying it.

As `agent.session.captions`, for translations: a *pass* is a translation of the open segment as
heard so far; what two passes in a row agree on is sent and never taken back. The translation
of the whole segment goes on from there. Passes are made only for the segment whose texts come
next, and give way to all other work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.audio.pcm import SAMPLE_RATE_HZ
from agent.session.items import (
    BranchEnded,
    BranchFailed,
    BranchPurpose,
    BranchText,
    DropBranch,
    StartBranch,
    TokenEvent,
)
from agent.session.outbox import NewId, Outbox
from agent.turns.agreement import Agreement

NEW_SPEECH_S = 1.2
"""So much more must have been said for the next pass: some words."""

SLOW_PASS_S = 3.0
"""Where a pass takes longer than this there are none until the segment is over."""

_REST = 0.5
"""After a pass the engine rests for this share of the time that it took."""


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


@dataclass(slots=True)
class _Pass:
    branch_id: str
    began_at: float
    end_sample: int
    source: str = ""
    translation: str = ""


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
        self._outbox = outbox
        self._new_id = new_id
        self._show = show
        self._clear()

    def _clear(self) -> None:
        self._texts = Texts()
        self._pass: _Pass | None = None
        self._next_samples = int(NEW_SPEECH_S * SAMPLE_RATE_HZ)
        self._rests_until = 0.0
        self._is_off = False

    def listen(self, heard_samples: int, position_sample: int, now: float) -> None:
        """Start a pass if it is time for one.

        Args:
            heard_samples: So much was heard of the open segment.
            position_sample: Where that ends.
            now: The time, in seconds.
        """
        if self._pass is not None or self._is_off or now < self._rests_until:
            return
        if heard_samples >= self._next_samples:
            self._next_samples = heard_samples + int(NEW_SPEECH_S * SAMPLE_RATE_HZ)
            self._pass = _Pass(self._new_id("branch"), now, position_sample)
            self._outbox.put(
                StartBranch(self._pass.branch_id, BranchPurpose.TRANSLATION, optional=True)
            )

    def close(self) -> Texts:
        """The segment is over: what was sent of it, for its final texts to go on from."""
        if self._pass is not None:
            self._outbox.put(DropBranch(self._pass.branch_id))
        texts = self._texts
        self._clear()
        return texts

    def receive(self, event: TokenEvent, now: float) -> bool:
        """Take what a branch gave; False when it is no pass that is under way."""
        current = self._pass
        if current is None or event.branch_id != current.branch_id:
            return False
        match event:
            case BranchText(text=text, is_source=True):
                current.source += text
            case BranchText(text=text):
                current.translation += text
            case BranchEnded(complete=complete):
                self._end_pass(current, now)
                if complete and current.source:
                    self._agree(current)
            case BranchFailed():
                self._end_pass(current, now)
        return True

    def _agree(self, ended: _Pass) -> None:
        source = self._texts.source.update(ended.source)
        # No translation says nothing about what was translated before.
        translation = self._texts.translation.update(ended.translation) if ended.translation else ""
        self._show(source, translation, ended.end_sample)

    def _end_pass(self, ended: _Pass, now: float) -> None:
        self._pass = None
        took_s = now - ended.began_at
        self._rests_until = now + _REST * took_s
        self._is_off = took_s > SLOW_PASS_S
