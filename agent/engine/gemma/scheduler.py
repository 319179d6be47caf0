"""Steps on the device, one after the other, in one thread.

Before each step everything that was asked for meanwhile is taken in, so whoever comes waits for
one step at most. The end of a prompt, after which an answer begins, comes first; the kinds of
steps take turns otherwise: between two tokens of those who are answered there is at most one
piece of those who are heard and one step each of reading text and recalling speech, and the
other way round. What does not fit into one step waits for the next of its kind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

import structlog
import torch

from agent.engine.gemma.device import Device
from agent.engine.gemma.residency import Residency
from agent.engine.gemma.rows import Kind, Rewind, Row, Work
from agent.engine.gemma.sounds import Sound
from agent.errors import EngineError

log = structlog.get_logger(__name__)

Command = Callable[[], None]

_PATIENCE_ROUNDS = 32
"""So many rounds of waiting count as much as one step of urgency."""


class Attendant(Protocol):
    """Who prepares and follows up rounds: a conversation.

    It is called from when something was posted by it until it has nothing under way.
    """

    def before_round(self) -> None:
        """Bring rows up to date."""

    def after_round(self) -> None:
        """See what the round has done."""

    @property
    def is_resting(self) -> bool:
        """Whether nothing will change for it until something is posted by it."""

    def break_off(self, error: EngineError) -> None:
        """It met a fault of its own: end all that it has under way."""


class Scheduler:
    """Owns the device.

    Args:
        device: Runs the steps.
        residency: Whose slots rows have.
        deliver: Given, from the thread, calls that another thread is to make, in order.
    """

    def __init__(
        self,
        device: Device,
        residency: Residency,
        deliver: Callable[[Sequence[Command]], None],
    ) -> None:
        self._deliver = deliver
        self._results: list[Command] = []
        self.device = device
        self.residency = residency
        self.rounds = 0
        self._served = dict.fromkeys(Kind, 0)
        self._rows: dict[Row, None] = {}
        self._awake: dict[Attendant, None] = {}
        self._commands: SimpleQueue[tuple[Command, Attendant] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------ from any thread

    def post(self, command: Command, by: Attendant) -> None:
        """Have something done in the thread, in the order it was posted."""
        self._commands.put((command, by))

    def start(self, on_fault: Callable[[BaseException], None]) -> None:
        """Begin to work; `on_fault` is called, in the thread, when it cannot go on."""

        def run() -> None:
            try:
                self.device.enter()
                while self._wait():
                    pass
            except BaseException as error:  # the boundary of the thread
                log.critical("the engine's thread has a fault", exc_info=error)
                on_fault(error)

        self._thread = threading.Thread(target=run, name="gemma", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being done and end the thread; blocks for a step at most."""
        self._commands.put(None)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    # ------------------------------------------------------------ in the thread

    def tell(self, result: Command) -> None:
        """Have a call made outside the thread, soon."""
        self._results.append(result)

    def flush(self) -> None:
        """Have the calls made that were told of."""
        if self._results:
            results, self._results = self._results, []
            self._deliver(results)

    def add(self, row: Row) -> None:
        """Work for a row until it is removed."""
        row.served = self.rounds
        self._rows[row] = None

    def remove(self, row: Row) -> None:
        """It needs nothing any more; harmless when it never did."""
        self._rows.pop(row, None)

    @property
    def is_answering(self) -> bool:
        """Whether any branch is being read or decoded, and so will end."""
        return any(row.predicts for row in self._rows)

    def drain(self) -> bool:
        """Do what was posted; False when it is time to end."""
        while True:
            try:
                posted = self._commands.get_nowait()
            except Empty:
                return True
            if posted is None:
                return False
            self._do(*posted)

    def _do(self, command: Command, by: Attendant) -> None:
        self._awake[by] = None
        _guarded(command, by)

    def round(self) -> bool:
        """One step; whether there was anything to do."""
        self.rounds += 1
        for attendant in list(self._awake):
            _guarded(attendant.before_round, attendant)
        wanted = self._wanted()
        if wanted:
            kind = min(wanted, key=lambda kind: self._rank(kind, wanted[kind]))
            self._served[kind] = self.rounds
            works = self._most_urgent(wanted[kind], self.device.most_rows(kind))
            for work in works:
                work.row.served = self.rounds
            self.device.run(kind, works)
        for attendant in list(self._awake):
            _guarded(attendant.after_round, attendant)
            if attendant.is_resting:
                del self._awake[attendant]
        return bool(wanted)

    def _rank(self, kind: Kind, works: Sequence[Work]) -> tuple[bool, int]:
        begins_answers = kind is Kind.CLOSE and any(work.predicts for work in works)
        return not begins_answers, self._served[kind]

    def _wait(self) -> bool:
        """Commands, then a round; sleeps while there is nothing to do."""
        if not self.drain():
            return False
        worked = self.round()
        self.flush()
        if not worked:
            posted = self._commands.get()
            if posted is None:
                return False
            self._do(*posted)
        return True

    def _wanted(self) -> dict[Kind, list[Work]]:
        """What rows need next."""
        wanted: dict[Kind, list[Work]] = {}
        for row in list(self._rows):
            work = self._next(row)
            if work is not None:
                wanted.setdefault(work.kind, []).append(work)
        return wanted

    def _most_urgent(self, works: Iterable[Work], most: int) -> list[Work]:
        """Those that somebody waits for, unless others have waited long."""

        def rank(work: Work) -> int:
            return work.row.urgency * _PATIENCE_ROUNDS + work.row.served

        chosen: list[Work] = []
        heard: set[Sound] = set()
        for work in sorted(works, key=rank):
            if work.kind is Kind.HEAR and work.sound is not None:
                # A clip is heard once; other rows recall it then.
                if work.sound in heard:
                    continue
                heard.add(work.sound)
            chosen.append(work)
        return chosen[:most]

    def _next(self, row: Row) -> Work | None:
        try:
            return row.next_work(self.device.shapes)
        except Rewind as rewind:
            clip, kept = rewind.token.clip, rewind.token.clip.soft_tokens
            place = row.target.index(rewind.token) - rewind.token.place + kept
            self.residency.go_back(row.resident, row.target[:place])
            log.debug("going back", clip=clip.number, kept=kept)
            return self._next(row)
        except EngineError as error:
            row.fail(error)
            return None


def _guarded(act: Command, by: Attendant) -> None:
    """Do something for one conversation; a fault in it is only that one's."""
    try:
        act()
    except torch.AcceleratorError:
        raise  # the device is lost
    except Exception as error:  # the boundary: one conversation fails, and is in the log
        log.exception("a conversation met a fault")
        by.break_off(EngineError(f"internal error: {type(error).__name__}"))
