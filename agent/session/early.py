"""Early answers: begun at a pause, held back until the turn is over, dropped if it is not.

At a short pause of the speaker nobody knows whether the turn is over. The answer is begun
anyway, in a branch that also sees the open utterance. Nothing of it leaves the session: what
comes is held here. When the turn ends, nothing was said since (that would have dropped it),
and a response takes the branch over with all that it gave so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.session.commands import BranchPurpose, DropBranch, StartBranch
from agent.session.outbox import NewId, Outbox
from agent.session.outputs import EarlyAnswerReport, EarlyOutcome
from agent.session.tokens import BranchFailed, TokenEvent


@dataclass(slots=True)
class EarlyAnswer:
    """An answer that nobody knows of yet.

    Attributes:
        branch_id: Its branch in the engine.
        began_at: When it was asked for, in seconds.
        events: What its branch gave so far.
    """

    branch_id: str
    began_at: float
    events: list[TokenEvent] = field(default_factory=list)


class EarlyAnswers:
    """The early answer of one session; there is at most one.

    Args:
        outbox: Where commands and reports go.
        new_id: Makes branch ids.
    """

    def __init__(self, outbox: Outbox, new_id: NewId) -> None:
        self._outbox = outbox
        self._new_id = new_id
        self._held: EarlyAnswer | None = None

    def begin(self, max_output_tokens: int | None, now: float) -> None:
        """Have an answer to the open utterance begun, in place of one that is held."""
        self.drop()
        self._held = EarlyAnswer(self._new_id("branch"), now)
        self._report(EarlyOutcome.BEGUN)
        self._outbox.put(
            StartBranch(
                branch_id=self._held.branch_id,
                purpose=BranchPurpose.ANSWER,
                max_output_tokens=max_output_tokens,
                include_open=True,
                optional=True,
            )
        )

    def drop(self) -> None:
        """It answers something that is not so any more; harmless when none is held."""
        self._end(EarlyOutcome.DROPPED)

    def take(self) -> EarlyAnswer | None:
        """The turn is over: give away what is held, for a response to go on with."""
        held, self._held = self._held, None
        if held is not None:
            self._report(EarlyOutcome.KEPT)
        return held

    def receive(self, event: TokenEvent) -> bool:
        """Hold what a branch gave; False when it is another's.

        One that failed, or that the engine had no time for, is forgotten: the turn will be
        answered when it is over.
        """
        held = self._held
        if held is None or event.branch_id != held.branch_id:
            return False
        if isinstance(event, BranchFailed):
            self._end(EarlyOutcome.FAILED)
        else:
            held.events.append(event)
        return True

    def _end(self, outcome: EarlyOutcome) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._outbox.put(DropBranch(held.branch_id))
            self._report(outcome)

    def _report(self, outcome: EarlyOutcome) -> None:
        self._outbox.put(EarlyAnswerReport(outcome))
