"""All that a session gives its driver: commands for the engine, and what is here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent.audio.pcm import Samples
from agent.session.commands import BranchPurpose, Command


@dataclass(frozen=True, slots=True)
class Send:
    """An event for the client."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTurn:
    """Say how likely it is that the speaker has finished; nobody waits if nobody can.

    Attributes:
        number: Of the pause; comes back with the answer.
        samples: float32[T], 16 kHz: the end of the turn, this pause included.
    """

    number: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class DropScore:
    """The speaker went on, or the turn is over: nobody waits for the score of this pause."""

    number: int


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection; `limit` is `idle` or `max_session`, None when the client wants it."""

    limit: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class TurnReport:
    """One spoken turn is over and answered (or will not be): for logs and metrics.

    Attributes:
        item_id: The user item.
        response_id: Its answer, or None.
        status: The answer's status, or None.
        audio_s: Seconds heard.
        clips: How many clips they were heard in.
        end_reason: Why the turn ended: `silence`, `max_turn`, `stalled`, `committed`, `idle`.
        turn_end_delay_ms: From the true end of speech to the decision that the turn is over.
        first_token_ms: From the true end of speech to the first text sent, or None.
        stages_ms: Parts of `first_token_ms` by stage.
        output_tokens: Tokens of the answer.
    """

    item_id: str
    response_id: str | None
    status: str | None
    audio_s: float
    clips: int
    end_reason: str
    turn_end_delay_ms: float
    first_token_ms: float | None
    stages_ms: dict[str, float]
    output_tokens: int


class EarlyOutcome(StrEnum):
    """What becomes of an answer that is begun at a pause."""

    BEGUN = "begun"
    KEPT = "kept"  # the turn was over
    DROPPED = "dropped"  # the speaker went on, or what it was about changed
    FAILED = "failed"  # the engine had no time for it, or could not


@dataclass(frozen=True, slots=True)
class EarlyAnswerReport:
    """Something happened to an early answer: for metrics. Each is `begun`, then one other."""

    outcome: EarlyOutcome


class PassOutcome(StrEnum):
    """What became of a pass over speech that goes on."""

    ENDED = "ended"
    DROPPED = "dropped"  # the speech was over first
    FAILED = "failed"  # the engine had no time for it, or could not


@dataclass(frozen=True, slots=True)
class PassReport:
    """A pass over speech that goes on is over: for metrics.

    Attributes:
        purpose: `CAPTION` or `TRANSLATION`.
        outcome: What became of it.
        took_s: How long that took.
    """

    purpose: BranchPurpose
    outcome: PassOutcome
    took_s: float


@dataclass(frozen=True, slots=True)
class InterruptionReport:
    """Speech has cancelled an answer: for logs and metrics.

    Times are in seconds, on the session's clock.

    Attributes:
        response_id: The answer.
        position_ms: Where in the audio the speech was that had to stop it: its 200th ms.
        arrived_at: When that arrived.
        heard_at: When the session had its scores.
        withheld_at: When text began to be withheld, mostly some ms of speech before.
        last_text_at: When text was let go last, or None.
    """

    response_id: str
    position_ms: int
    arrived_at: float
    heard_at: float
    withheld_at: float
    last_text_at: float | None


Report = TurnReport | EarlyAnswerReport | PassReport | InterruptionReport
Output = Send | Command | ScoreTurn | DropScore | Close | Report
