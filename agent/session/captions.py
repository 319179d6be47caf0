"""Live captions: the words of a turn while it is being spoken.

A pass (`agent.session.passes`) is a transcript of the open utterance as heard so far. What two
passes agree on is sent, and never taken back (`turns.agreement`).
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.protocol import server_events
from agent.session.commands import BranchPurpose
from agent.session.outbox import NewId, Outbox
from agent.session.passes import Pass, Passes
from agent.session.tokens import TokenEvent
from agent.turns.agreement import Agreement

NEW_SPEECH_S = 0.8
"""With less new speech a pass would seldom have a whole new word that can be trusted."""


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


class Captions:
    """The live captions of one session.

    Args:
        outbox: Where events and commands go.
        new_id: Makes branch ids.
    """

    def __init__(self, outbox: Outbox, new_id: NewId) -> None:
        self._outbox = outbox
        self._passes = Passes(BranchPurpose.CAPTION, NEW_SPEECH_S, outbox, new_id, self._show)
        self._item_id: str | None = None
        self._agreement = Agreement()

    def listen(self, turn: OpenTurn | None, now: float) -> None:
        """Start a pass if it is time for one.

        Args:
            turn: What is being spoken; None when nothing is, or no captions are wanted.
            now: The time, in seconds.
        """
        item_id = None if turn is None else turn.item_id
        if item_id != self._item_id:
            self._begin(item_id, now)
        if turn is not None:
            self._passes.listen(turn.heard_samples, now, paused=turn.paused)

    def close(self, item_id: str, now: float) -> Agreement:
        """A turn is over: what was shown of it, for its final transcript to go on from."""
        shown = self._agreement if item_id == self._item_id else Agreement()
        self._begin(None, now)
        return shown

    def receive(self, event: TokenEvent, now: float) -> bool:
        """Take what a branch gave; False when it is no pass that is under way."""
        return self._passes.receive(event, now)

    def _begin(self, item_id: str | None, now: float) -> None:
        """Another turn, or none."""
        self._passes.begin(now)
        self._item_id = item_id
        self._agreement = Agreement()

    def _show(self, ended: Pass) -> None:
        if not ended.text:
            return  # nothing heard says nothing about what was heard before
        delta = self._agreement.update(ended.text)
        if delta:
            assert self._item_id is not None
            self._outbox.send(server_events.transcription_delta(self._item_id, delta))
