"""Passes over speech that is still going on: for live captions, and for translations.

A *pass* is a branch over the open utterance as heard so far. One runs at a time; the next one
starts when enough new speech was heard, and at a pause, where the engine works on what was
said anyway. Passes give way: there is none while the engine has no time to spare, and the
longer they take the more seldom they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.audio.pcm import SAMPLE_RATE_HZ
from agent.session.commands import BranchPurpose, DropBranch, StartBranch
from agent.session.outbox import NewId, Outbox
from agent.session.outputs import PassOutcome, PassReport
from agent.session.tokens import BranchEnded, BranchFailed, BranchText, TokenEvent

SLOW_PASS_S = 3.0
"""After a pass that took this long the engine rests as long again, after shorter ones for a
smaller share, after longer ones for a larger one: busy engines get fewer and fewer passes."""


@dataclass(slots=True)
class Pass:
    """One pass.

    Attributes:
        branch_id: Its branch.
        began_at: When it was asked for, in seconds.
        heard_samples: So much had been heard of the utterance then.
        text: What it wrote.
        source: The words that a translation is made of; empty for captions.
    """

    branch_id: str
    began_at: float
    heard_samples: int
    text: str = ""
    source: str = ""


class Passes:
    """The passes of one session.

    Args:
        purpose: Of their branches.
        new_speech_s: So much more must have been said for the next one.
        outbox: Where commands go.
        new_id: Makes branch ids.
        take: Given each pass that came to its end.
    """

    def __init__(
        self,
        purpose: BranchPurpose,
        new_speech_s: float,
        outbox: Outbox,
        new_id: NewId,
        take: Callable[[Pass], None],
    ) -> None:
        self._purpose = purpose
        self._new_samples = int(new_speech_s * SAMPLE_RATE_HZ)
        self._outbox = outbox
        self._new_id = new_id
        self._take = take
        self._pass: Pass | None = None
        self._begin()

    def _begin(self) -> None:
        self._heard_samples = 0
        self._pause_was_heard = False
        self._rests_until = 0.0

    def begin(self, now: float) -> None:
        """Another utterance, or none: a pass that is under way is dropped."""
        if self._pass is not None:
            self._outbox.put(DropBranch(self._pass.branch_id))
            self._end_pass(self._pass, PassOutcome.DROPPED, now)
        self._begin()

    def listen(self, heard_samples: int, now: float, *, paused: bool = False) -> None:
        """Start a pass if it is time for one.

        Args:
            heard_samples: So much was heard of the utterance, silence included.
            now: The time, in seconds.
            paused: Whether the speaker pauses.
        """
        first_of_pause = paused and not self._pause_was_heard
        if not paused:
            self._pause_was_heard = False
        if self._pass is not None or now < self._rests_until:
            return
        is_new = heard_samples - self._heard_samples >= self._new_samples
        if first_of_pause or (is_new and not paused):
            self._pause_was_heard = paused
            self._heard_samples = heard_samples
            self._pass = Pass(self._new_id("branch"), now, heard_samples)
            self._outbox.put(StartBranch(self._pass.branch_id, self._purpose, optional=True))

    def receive(self, event: TokenEvent, now: float) -> bool:
        """Take what a branch gave; False when it is no pass that is under way."""
        current = self._pass
        if current is None or event.branch_id != current.branch_id:
            return False
        match event:
            case BranchText(text=text, is_source=True):
                current.source += text
            case BranchText(text=text):
                current.text += text
            case BranchEnded(complete=True):
                self._end_pass(current, PassOutcome.ENDED, now)
                self._take(current)
            case BranchEnded() | BranchFailed():
                self._end_pass(current, PassOutcome.FAILED, now)
        return True

    def _end_pass(self, ended: Pass, outcome: PassOutcome, now: float) -> None:
        self._pass = None
        took_s = now - ended.began_at
        self._rests_until = now + took_s * took_s / SLOW_PASS_S
        self._outbox.put(PassReport(self._purpose, outcome, took_s))
