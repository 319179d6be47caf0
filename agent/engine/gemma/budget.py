"""Which of the oldest turns are left out of a prompt that would grow too long.

What is left out depends on the items alone, so a conversation that is built again reads the
same; and on turns that are over, so nothing changes between the moment a speaker is listened to
and the answer. Whole blocks go at once: each time the beginning changes, all that follows must
be read again, which then is not needed for many turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.engine.items import Item, Role

MOST_SHARE = 0.75
"""Of the context that turns which are over may take; the rest is for the present one."""
LEFT_SHARE = 0.5
"""To so much of the context they are cut down when they take more."""


@dataclass(frozen=True, slots=True)
class Absent:
    """Items of the conversation that a prompt does not have as they are.

    Attributes:
        dropped: Left out.
        summarised: A summary stands for them.
    """

    dropped: int = 0
    summarised: int = 0


def turn_starts(items: Sequence[Item]) -> list[int]:
    """Where turns begin: with an item of the user, all that comes before the next one."""
    starts = [at for at, item in enumerate(items) if at and item.role is Role.USER]
    return [0, *starts]


def first_kept(turn_tokens: Sequence[int], most: int, left: int) -> int:
    """How many of the oldest turns are left out.

    Args:
        turn_tokens: Of all turns that are over, the oldest first.
        most: What they may take together.
        left: What they are cut down to when they take more; the last one always stays.
    """
    first, total = 0, 0
    for last, tokens in enumerate(turn_tokens):
        total += tokens
        if total > most:
            while first < last and total > left:
                total -= turn_tokens[first]
                first += 1
    return first
