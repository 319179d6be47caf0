"""A summary on its way: written in a branch, read into a slot, put in place between turns.

Until it is in place, everything goes on with the turns it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import perf_counter

import structlog

from agent.engine.branches import BranchDone, BranchPiece, TextDelta
from agent.engine.gemma.decoding import Asked
from agent.engine.gemma.record import Record
from agent.engine.gemma.rows import Row
from agent.engine.gemma.summary import LIMITS, Summary
from agent.engine.gemma.workshop import Script, Workshop
from agent.errors import EngineBusy, EngineError

log = structlog.get_logger(__name__)

_AGAIN_AFTER_ITEMS = 4
"""After a summary that failed another is tried when there are so many items more."""


class _Reading(Row):
    """Reads a conversation with its summary into a slot."""

    urgency = 3

    def __init__(self, shop: Workshop, script: Script, on_fail: Callable[[], None]) -> None:
        super().__init__(script.opening(1)[0])
        self._shop = shop
        self._on_fail = on_fail

    def fail(self, error: EngineError) -> None:
        log.warning("a summary is not used", error=str(error))
        self._on_fail()


class Folding:
    """The summaries of one conversation.

    Args:
        shop: Shared.
        owner: The conversation.
        record: Its items; given the summary when it is in place.
    """

    def __init__(self, shop: Workshop, owner: Hashable, record: Record) -> None:
        self._shop = shop
        self._owner = owner
        self._record = record
        self._next: Summary | None = None
        self._reading: _Reading | None = None
        self._is_asked = False
        self._not_before_items = 0

    @property
    def is_ready(self) -> bool:
        """Whether a summary was read and waits to be put in place."""
        return self._reading is not None and not self._reading.missing

    @property
    def is_under_way(self) -> bool:
        """Whether a summary is being written, read, or waits to be put in place."""
        return self._is_asked or self._reading is not None

    def ask(self, when_ready: Callable[[], None]) -> tuple[Script, Asked] | None:
        """A branch that writes a summary, if it is time for one and none is on its way.

        Args:
            when_ready: Called when it is time to come back.
        """
        record = self._record
        if self._next is not None or self._is_asked:
            return None
        if len(record.items) < self._not_before_items:
            return None
        try:
            wanted = record.to_summarise()
        except EngineError as error:
            self._give_up(error)
            return None
        if wanted is None:
            return None
        script, until = wanted
        texts: list[str] = []
        self._is_asked = True

        def tell(piece: BranchPiece | EngineError) -> None:
            if isinstance(piece, TextDelta):
                texts.append(piece.text)
                return
            self._is_asked = False
            text = "".join(texts).strip()
            if isinstance(piece, BranchDone) and text:
                self._next = Summary(text, until)
                log.info("summary written", usage=piece.usage)
            else:
                self._give_up(piece)
            when_ready()

        return script, Asked(LIMITS, tell, perf_counter(), is_kept=False)

    def swap(self) -> bool:
        """Go on with a summary that was written; whether it is in place now."""
        if self._next is None:
            return False
        if self._next.first_kept(self._record.items) is None:
            self.drop()  # what it stops before is gone
            return False
        if self._reading is None:
            self._read(self._next)
            return False
        if self._reading.missing:
            return False
        self._record.summary = self._next
        log.info("summary in place", until=self._next.until)
        self.drop()
        return True

    def _read(self, summary: Summary) -> None:
        try:
            script = self._record.opening([self._shop.sound()], summary)
            resident = self._shop.residency.take(self._owner)
        except EngineBusy:
            return  # another time
        except EngineError as error:
            self._give_up(error)
            return
        self._reading = _Reading(self._shop, script, self.drop)
        self._reading.resident = resident
        resident.is_busy = True
        self._shop.scheduler.add(self._reading)

    def drop(self) -> None:
        """Nothing is on its way any more; what was read stays in its slot until that is taken."""
        self._next = None
        if self._reading is not None:
            self._shop.scheduler.remove(self._reading)
            self._reading.resident.is_busy = False
            self._reading = None

    def _give_up(self, reason: object) -> None:
        log.warning("no summary could be written", reason=str(reason))
        self._not_before_items = len(self._record.items) + _AGAIN_AFTER_ITEMS
