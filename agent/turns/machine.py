"""Turn-taking as one table: what a segment event means in each state of the floor.

Two rules make the table easy to trust: everything that depends on the order of segment
events is here, and an event that is not in the table for the present state is a bug of
ours, raised as `IllegalTransition` before anything has changed.

    FREE      nobody speaks
    HEARING   something is heard that may turn out to be no speech; not announced yet
    SPEAKING  a turn is open and announced
    PAUSED    the speaker has paused; early work may be under way
"""

from __future__ import annotations

from enum import Enum, auto

from agent.errors import LocalError
from agent.vad.events import (
    Cut,
    Heard,
    Misfire,
    Paused,
    Resumed,
    SegmentEvent,
    SpeechStarted,
    Stopped,
)


class Floor(Enum):
    """Whose turn it is, as far as the listening side knows."""

    FREE = auto()
    HEARING = auto()
    SPEAKING = auto()
    PAUSED = auto()


class Action(Enum):
    """What the session does about an event."""

    HEAR = auto()
    ANNOUNCE = auto()
    FORGET = auto()
    START_EARLY_WORK = auto()
    DROP_EARLY_WORK = auto()
    CUT = auto()
    END_TURN = auto()


class IllegalTransition(LocalError):
    """A segment event that cannot happen in this state: a bug on our side."""


TRANSITIONS: dict[tuple[Floor, type[SegmentEvent]], tuple[Floor, Action]] = {
    (Floor.FREE, Heard): (Floor.HEARING, Action.HEAR),
    (Floor.HEARING, Heard): (Floor.HEARING, Action.HEAR),
    (Floor.HEARING, SpeechStarted): (Floor.SPEAKING, Action.ANNOUNCE),
    (Floor.HEARING, Misfire): (Floor.FREE, Action.FORGET),
    # A client that ends its turns itself never has them announced.
    (Floor.HEARING, Cut): (Floor.HEARING, Action.CUT),
    (Floor.HEARING, Stopped): (Floor.FREE, Action.END_TURN),
    (Floor.SPEAKING, Heard): (Floor.SPEAKING, Action.HEAR),
    (Floor.SPEAKING, Paused): (Floor.PAUSED, Action.START_EARLY_WORK),
    (Floor.SPEAKING, Cut): (Floor.SPEAKING, Action.CUT),
    (Floor.SPEAKING, Stopped): (Floor.FREE, Action.END_TURN),
    # Only when the client clears its buffer.
    (Floor.SPEAKING, Misfire): (Floor.FREE, Action.FORGET),
    (Floor.PAUSED, Heard): (Floor.PAUSED, Action.HEAR),
    (Floor.PAUSED, Resumed): (Floor.SPEAKING, Action.DROP_EARLY_WORK),
    (Floor.PAUSED, Cut): (Floor.PAUSED, Action.CUT),
    (Floor.PAUSED, Stopped): (Floor.FREE, Action.END_TURN),
    (Floor.PAUSED, Misfire): (Floor.FREE, Action.FORGET),
}


def next_state(floor: Floor, event: SegmentEvent) -> tuple[Floor, Action]:
    """Look up what `event` does in state `floor`.

    Raises:
        IllegalTransition: It cannot happen there.
    """
    try:
        return TRANSITIONS[floor, type(event)]
    except KeyError:
        raise IllegalTransition(f"{type(event).__name__} while {floor.name}") from None
