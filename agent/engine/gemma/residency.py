"""Which tokens each slot of the cache holds, and how a slot comes to hold the beginning of others.

A slot is nothing but a memory of a token sequence. Whoever needs one names the sequence; it
gets the slot of its conversation that has the longest beginning of it, moved or copied. What
a slot cannot go back to is written anew. Nothing else knows what is resident.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence

import structlog

from agent.engine.gemma.cache import Cache, Snapshot
from agent.engine.gemma.prompts import common_prefix
from agent.engine.gemma.sounds import Soft
from agent.errors import EngineBusy

log = structlog.get_logger(__name__)

Token = int | Soft
"""A text token's id, or a clip's soft token."""


class Resident:
    """A slot and the tokens it holds.

    Attributes:
        slot: Of the cache.
        owner: The conversation.
        held: What it holds.
        is_busy: Whether a piece of work writes into it.
        mark: A snapshot to go back to, and None when there is none.
        used: Grows with every use.
    """

    def __init__(self, slot: int, owner: Hashable, held: list[Token]) -> None:
        self.slot = slot
        self.owner = owner
        self.held = held
        self.is_busy = False
        self.mark: Snapshot | None = None
        self.used = 0


class Residency:
    """All slots of the cache.

    Args:
        cache: Its slots are taken and given back here only.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self._clock = itertools.count(1)
        self._residents: set[Resident] = set()

    def of(self, owner: Hashable) -> list[Resident]:
        """A conversation's slots, the one used last first."""
        mine = [one for one in self._residents if one.owner == owner]
        return sorted(mine, key=lambda one: -one.used)

    def use(self, resident: Resident) -> None:
        """It is of use now."""
        resident.used = next(self._clock)

    def reach(self, resident: Resident, target: Sequence[Token]) -> int:
        """How many first tokens of `target` a slot could be brought to without writing any."""
        shared = common_prefix(resident.held, target)
        if self.cache.can_truncate(resident.slot, shared):
            return shared
        mark = resident.mark
        return mark.length if mark is not None and mark.length <= shared else 0

    def go_back(self, resident: Resident, target: Sequence[Token]) -> int:
        """Cut a slot to what it has of the beginning of `target`; returns its length then."""
        length = self.reach(resident, target)
        self._cut(resident, length, resident.mark)
        if resident.mark is not None and resident.mark.length > length:
            self.drop_mark(resident)
        return length

    def mark(self, resident: Resident) -> None:
        """Take a snapshot to go back to, in place of the one before, if one is free."""
        self.drop_mark(resident)
        try:
            resident.mark = self.cache.snapshot(resident.slot)
        except EngineBusy:
            log.debug("no snapshot is free")

    def drop_mark(self, resident: Resident) -> None:
        """Its snapshot is needed no more."""
        if resident.mark is not None:
            self.cache.drop(resident.mark)
            resident.mark = None

    def best(
        self, owner: Hashable, target: Sequence[Token], spared: Resident | None = None
    ) -> tuple[Resident | None, int]:
        """The conversation's slot that reaches furthest into `target`, an idle one before others.

        Args:
            owner: The conversation.
            target: What is wanted.
            spared: Not to be looked at.

        Returns:
            The slot, or None, and how many tokens it reaches.
        """
        found: Resident | None = None
        longest = (0, False)
        for resident in self.of(owner):
            rank = (self.reach(resident, target), not resident.is_busy)
            if resident is not spared and rank[0] > 0 and rank > longest:
                found, longest = resident, rank
        return found, longest[0]

    def fork(self, source: Resident, target: Sequence[Token]) -> Resident:
        """Another slot with what `source` has of the beginning of `target`.

        Raises:
            EngineBusy: No slot is free, or could be freed.
        """
        resident = self.take(source.owner, spared=source)
        self.cache.copy(source.slot, resident.slot)
        resident.held = list(source.held)
        self._cut(resident, self.reach(source, target), source.mark)
        return resident

    def _cut(self, resident: Resident, length: int, mark: Snapshot | None) -> None:
        """Cut a slot to a length that it reaches."""
        if self.cache.can_truncate(resident.slot, length):
            self.cache.truncate(resident.slot, length)
        else:
            assert mark is not None
            assert mark.length == length
            self.cache.restore(resident.slot, mark)
        del resident.held[length:]

    def take(self, owner: Hashable, spared: Resident | None = None) -> Resident:
        """An empty slot; idle slots of whoever used theirs longest ago are given up for it.

        Args:
            owner: The conversation.
            spared: Not to be given up.

        Raises:
            EngineBusy: All slots are in use.
        """
        if not self.cache.free_slots:
            idle = [one for one in self._residents if not one.is_busy and one is not spared]
            if not idle:
                raise EngineBusy(
                    f"all {self.cache.plan.slots} places of this engine are in use; try again "
                    "when somebody has been answered"
                )
            self.free(min(idle, key=lambda one: one.used))
        resident = Resident(self.cache.allocate(), owner, [])
        self._residents.add(resident)
        self.use(resident)
        return resident

    def free(self, resident: Resident) -> None:
        """Give a slot back; harmless when that was done."""
        if resident in self._residents:
            self._residents.remove(resident)
            self.drop_mark(resident)
            self.cache.free(resident.slot)

    def free_all(self, owner: Hashable) -> None:
        """A conversation is over."""
        for resident in self.of(owner):
            self.free(resident)

    def is_here(self, resident: Resident) -> bool:
        """Whether it was not given up."""
        return resident in self._residents
