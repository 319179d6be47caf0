"""Live captions: the words of a turn while it is being spoken.

A *pass* is a transcript of the open utterance as heard so far. One runs at a time; the next
one starts when enough new speech was heard, and at a pause, where the engine recognises what
was said anyway. What two passes agree on is sent, and never taken back (`turns.agreement`).

Passes give way: there is none while the engine has no time to spare, and the longer they take
the more seldom they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.audio.pcm import SAMPLE_RATE_HZ
from agent.protocol import server_events
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

# Sooner, a pass would seldom have a whole new word that can be trusted.
_NEW_SPEECH_SAMPLES = int(0.8 * SAMPLE_RATE_HZ)
# After a pass that took this long the engine rests as long again, after shorter ones for a
# smaller share, after longer ones for a larger one: busy engines get fewer and fewer passes.
_SLOW_PASS_S = 3.0


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A turn that is being spoken.

    Attributes:
        item_id: The item it will become.
        heard_samples: So much was heard of it, silence included.
        paused: Whether the speaker pauses.
    """

    item_id: str
    heard_samples: int
    paused: bool


@dataclass(slots=True)
class _Pass:
    branch_id: str
    began_at: float
    text: str = ""


class Captions:
    """The live captions of one session.

    Args:
        outbox: Where events and commands go.
        new_id: Makes branch ids.
    """

    def __init__(self, outbox: Outbox, new_id: NewId) -> None:
        self._outbox = outbox
        self._new_id = new_id
        self._item_id: str | None = None
        self._agreement = Agreement()
        self._pass: _Pass | None = None
        self._heard_samples = 0
        self._pause_was_heard = False
        self._rests_until = 0.0

    def listen(self, turn: OpenTurn | None, now: float) -> None:
        """Start a pass if it is time for one.

        Args:
            turn: What is being spoken; None when nothing is, or no captions are wanted.
            now: The time, in seconds.
        """
        item_id = None if turn is None else turn.item_id
        if item_id != self._item_id:
            self._begin(item_id)
        if turn is None:
            return
        first_of_pause = turn.paused and not self._pause_was_heard
        if not turn.paused:
            self._pause_was_heard = False
        if self._pass is not None or now < self._rests_until:
            return
        new_samples = turn.heard_samples - self._heard_samples
        if first_of_pause or (not turn.paused and new_samples >= _NEW_SPEECH_SAMPLES):
            self._pause_was_heard = turn.paused
            self._heard_samples = turn.heard_samples
            self._pass = _Pass(self._new_id("branch"), now)
            self._outbox.put(
                StartBranch(self._pass.branch_id, BranchPurpose.CAPTION, optional=True)
            )

    def close(self, item_id: str) -> Agreement:
        """A turn is over: what was shown of it, for its final transcript to go on from."""
        shown = self._agreement if item_id == self._item_id else Agreement()
        self._begin(None)
        return shown

    def receive(self, event: TokenEvent, now: float) -> bool:
        """Take what a branch gave; False when it is no pass that is under way."""
        current = self._pass
        if current is None or event.branch_id != current.branch_id:
            return False
        match event:
            case BranchText(text=text):
                current.text += text
            case BranchEnded():
                self._end_pass(current, now)
                if current.text:  # nothing heard says nothing about what was heard before
                    self._show(current.text)
            case BranchFailed():
                self._end_pass(current, now)
        return True

    def _begin(self, item_id: str | None) -> None:
        """Another turn, or none."""
        if self._pass is not None:
            self._outbox.put(DropBranch(self._pass.branch_id))
        self._item_id = item_id
        self._agreement = Agreement()
        self._pass = None
        self._heard_samples = 0
        self._pause_was_heard = False
        self._rests_until = 0.0

    def _end_pass(self, ended: _Pass, now: float) -> None:
        self._pass = None
        took_s = now - ended.began_at
        self._rests_until = now + took_s * took_s / _SLOW_PASS_S

    def _show(self, text: str) -> None:
        delta = self._agreement.update(text)
        if delta:
            assert self._item_id is not None
            self._outbox.send(server_events.transcription_delta(self._item_id, delta))
