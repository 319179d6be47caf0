"""One conversation in the scheduler's thread: its items, its clips, its slots."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import structlog

from agent.engine.branches import BranchDone, BranchRequest, FinishReason, TextDelta, Usage
from agent.engine.contract import Committed, ConversationSettings
from agent.engine.gemma.budget import Absent
from agent.engine.gemma.decoding import Asked, Decoding, check_fits
from agent.engine.gemma.folding import Folding
from agent.engine.gemma.judging import Judging
from agent.engine.gemma.record import Clips, Record
from agent.engine.gemma.residency import Resident, Token
from agent.engine.gemma.rows import Row
from agent.engine.gemma.sounds import Sound
from agent.engine.gemma.workshop import Script, Workshop
from agent.engine.items import Item
from agent.errors import EngineBusy, EngineError

log = structlog.get_logger(__name__)

_WORTH_A_COPY_TOKENS = 32
"""Copying a slot that is in use must save at least so much reading."""


@dataclass(frozen=True, slots=True)
class _Commit:
    """A commit whose speech is not all heard."""

    item_id: str
    sounds: tuple[Sound, ...]
    tell: Callable[[Committed | EngineError], None]

    @property
    def usage(self) -> Usage:
        return Usage(audio_tokens=sum(len(sound.tokens()) for sound in self.sounds))


class _Main(Row):
    """The row that hears what is said."""

    def __init__(self, on_fail: Callable[[EngineError], None]) -> None:
        super().__init__([])
        self._on_fail = on_fail

    def fail(self, error: EngineError) -> None:
        self._on_fail(error)


class Dialogue:
    """A conversation's state; every method but the first belongs to the scheduler's thread.

    One slot, the main one, hears the open utterance, or waits at its beginning; every branch
    has a slot of its own. An answer's slot is kept until the items change, as the answer may
    then be one of them.
    """

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._record = Record(shop)
        self._open: list[Sound] = [shop.sound()]
        self._main: _Main | None = None
        self._before_clip = 0
        self._answered: Resident | None = None
        self._is_stale = self._is_due = True
        self._is_broken = self._may_fold = False
        self._branches: dict[object, Decoding] = {}
        self._commits: list[_Commit] = []
        self._folding = Folding(shop, self, self._record) if shop.summaries else None

    # ------------------------------------------------------------ items

    def change(self, settings: ConversationSettings, items: tuple[Item, ...], clips: Clips) -> None:
        """The items are others now; see `Record.change`."""
        self._forget(self._record.change(settings, items, clips))
        here = {item.id for item in items}
        for commit in [one for one in self._commits if one.item_id not in here]:
            self._commits.remove(commit)
            commit.tell(Committed(commit.usage))
        self._answered = None
        self._is_stale, self._is_broken = True, False
        if self._main is not None:
            self._shop.scheduler.remove(self._main)  # until it is clear where it goes on
            self._main.resident.is_busy = self._is_hearing

    def _forget(self, sounds: Iterable[Sound]) -> None:
        """Forget clips unless something still needs them."""
        needed = {sound for branch in self._branches.values() for sound in branch.sounds}
        needed.update(self._open, self._record.sounds)
        for sound in sounds:
            if sound not in needed:
                self._shop.device.forget(sound)

    # ------------------------------------------------------------ hearing

    @property
    def _is_hearing(self) -> bool:
        return any(sound.samples for sound in self._open)

    def hear(self, pcm: bytes) -> None:
        """More speech, 16-bit PCM."""
        sound = self._open[-1]
        if sound.is_closed:
            sound = self._shop.sound()
            self._open.append(sound)
            self._is_stale = True
        sound.hear(pcm)
        main = self._main
        if self._is_stale or main is None or not self._is_here(main):
            self._is_due = not self._is_broken
            return
        main.resident.is_busy = True
        heard = len(main.target) - self._before_clip
        main.target += sound.tokens()[heard : sound.whole_tokens]

    def cut(self, keep_samples: int) -> None:
        """End the open clip after so many samples."""
        sound = self._open[-1]
        rest = sound.cut(keep_samples)
        self._shop.device.store.touch(sound)
        if rest.samples:
            self._open.append(rest)
        self._is_stale = self._is_due = True
        self._is_broken = False

    def forget(self) -> None:
        """Drop the open utterance."""
        lost, self._open = self._open, [self._shop.sound()]
        self._forget(lost)
        self._is_stale = self._is_due = True
        self._is_broken = False
        if self._main is not None:
            self._shop.scheduler.remove(self._main)

    def commit(
        self,
        item_id: str,
        settings: ConversationSettings,
        items: tuple[Item, ...],
        tell: Callable[[Committed | EngineError], None],
    ) -> None:
        """Make the open utterance the item that `items` has of this id.

        Args:
            item_id: The new item.
            settings: As for `change`.
            items: As for `change`.
            tell: Given the outcome.
        """
        sounds = tuple(sound for sound in self._open if sound.samples)
        for sound in sounds:
            sound.is_closed = True
        self._open = [self._shop.sound()]
        self._record.heard(item_id, sounds)
        self._commits.append(_Commit(item_id, sounds, tell))
        self.change(settings, items, {})

    def be_due(self) -> None:
        """Nothing more is to be expected soon: get ready for what will be said."""
        self._is_due = True

    # ------------------------------------------------------------ the main slot

    def before_round(self) -> None:
        """See `Attendant`."""
        self._note_use()
        for branch in list(self._branches.values()):
            if not branch.has_started and not self._start(branch):
                break
        if self._is_due and not (self._is_answering and not self._is_hearing):
            self._is_due = False
            if self._is_stale or self._main is None or not self._is_here(self._main):
                self._settle()
            self._may_fold = True
        if self._folding is not None and (self._may_fold or self._folding.is_ready):
            self._fold(self._folding)

    def after_round(self) -> None:
        """See `Attendant`."""
        for commit in list(self._commits):
            if all(sound.is_whole for sound in commit.sounds):
                self._commits.remove(commit)
                commit.tell(Committed(commit.usage))
        self._note_use()

    @property
    def is_resting(self) -> bool:
        """See `Attendant`."""
        if self._is_due or self._branches or self._commits:
            return False
        if self._folding is not None and (self._may_fold or self._folding.is_under_way):
            return False
        return self._main is None or not self._main.missing

    def _note_use(self) -> None:
        if self._main is not None and self._is_here(self._main):
            busy = self._is_hearing or (self._main.missing > 0 and not self._is_stale)
            self._main.resident.is_busy = busy

    def _fold(self, folding: Folding) -> None:
        """Between turns: put a summary in place that is ready, or have one written."""
        if self._is_hearing or self._is_answering or self._answered is not None:
            return
        if self._is_stale or self._main is None or self._main.missing:
            return  # what is to be summarised is not resident
        self._may_fold = False
        if folding.swap():
            self._is_stale = True
            self._settle()
        elif (asked := folding.ask(self.be_due)) is not None:
            script, how = asked
            try:
                self._begin_branch(folding, script, how, Absent())
            except EngineError as error:
                how.tell(error)

    @property
    def _is_answering(self) -> bool:
        """Whether an answer is on its way that will most likely be the next item."""
        return any(branch.asked.is_kept for branch in self._branches.values())

    def _is_here(self, row: Row) -> bool:
        return self._shop.residency.is_here(row.resident)

    def _settle(self) -> None:
        """Send the main row on its way to the beginning of the open utterance, or on with it."""
        shop = self._shop
        try:
            script = self._record.opening(self._open, self._record.summary)
            target, first, last = script.opening(len(self._open))
            check_fits(len(target), shop.context_tokens)
            resident = self._slot_for_main(target)
        except EngineBusy:
            self._is_due = self._is_hearing or bool(self._commits)
            return
        except EngineError as error:
            self._main_failed(error)
            return
        if self._main is None:
            self._main = _Main(self._main_failed)
        main = self._main
        main.resident, main.target = resident, target
        main.mark_at, self._before_clip = first, last
        resident.is_busy = True
        shop.residency.use(resident)
        self._is_stale = False
        shop.scheduler.add(main)

    def _slot_for_main(self, target: list[Token]) -> Resident:
        """A slot with as much of the beginning of `target` as one has, and no more.

        Raises:
            EngineBusy: None is free.
        """
        residency = self._shop.residency
        own = self._main.resident if self._main is not None and self._is_here(self._main) else None
        if own is not None:
            own.is_busy = False
        found, reach = residency.best(self, target, self._answered)
        if found is None or (found.is_busy and own is not None and reach < _WORTH_A_COPY_TOKENS):
            found = own if own is not None else residency.take(self)
        elif found.is_busy:
            found = residency.fork(found, target)
        residency.go_back(found, target)
        for other in residency.of(self):
            if other not in {found, self._answered} and not other.is_busy:
                residency.free(other)
        return found

    def _main_failed(self, error: EngineError) -> None:
        """What was being heard, or will be next, cannot be."""
        log.warning("a conversation's own slot is lost", error=str(error))
        if self._main is not None:
            self._shop.scheduler.remove(self._main)
            if self._is_here(self._main):
                self._shop.residency.free(self._main.resident)
        self._main = None
        self._is_stale = self._is_broken = True  # not again until something else is asked for
        for commit in self._commits:
            commit.tell(error)
        self._commits.clear()

    # ------------------------------------------------------------ branches

    def branch(self, key: object, request: BranchRequest, clips: Clips, asked: Asked) -> None:
        """Begin a branch.

        Args:
            key: Names it.
            request: What it is for.
            clips: Of spoken items in its own context.
            asked: How, and for whom.
        """
        record = self._record
        try:
            if (words := record.known_words(request)) is not None:
                asked.tell(TextDelta(words))
                asked.tell(BranchDone(FinishReason.STOP, Usage()))
                return
            heard = [sound for sound in self._open if sound.samples]
            script, absent = record.prompt(request, heard, record.sounds_of(clips))
            self._begin_branch(key, script, asked, absent)
        except EngineError as error:
            asked.tell(error)
            return
        except Exception as error:
            asked.tell(EngineError(f"internal error: {type(error).__name__}"))
            raise

    def _begin_branch(self, key: object, script: Script, asked: Asked, absent: Absent) -> None:
        kind = Judging if asked.judges else Decoding
        branch = kind(self._shop, asked, script, absent, partial(self._ended, key))
        self._branches[key] = branch
        self._start(branch)

    def cancel(self, key: object) -> None:
        """Stop a branch; harmless when it has ended."""
        if (branch := self._branches.get(key)) is not None:
            branch.cancel()

    def _start(self, branch: Decoding) -> bool:
        """Give a branch a slot; whether it needs to wait no more."""
        try:
            # Not the last token: what follows it is predicted when it is written.
            branch.start(self._slot_for_branch(branch.target[:-1]))
        except EngineBusy as error:
            if self._shop.scheduler.is_answering:
                return False  # somebody will be done
            branch.fail(error)
        return True

    def _slot_for_branch(self, prompt: list[Token]) -> Resident:
        residency = self._shop.residency
        found, reach = residency.best(self, prompt)
        if found is None or reach < _WORTH_A_COPY_TOKENS:
            return residency.take(self)
        main = self._main.resident if self._main is not None else None
        if not found.is_busy and found not in {main, self._answered}:
            residency.go_back(found, prompt)
            return found
        try:
            return residency.fork(found, prompt)
        except EngineBusy:
            if found.is_busy:
                raise
        # There is no other: the branch goes on in it, and what comes next is read again.
        residency.go_back(found, prompt)
        if found is main and self._main is not None:
            self._shop.scheduler.remove(self._main)
            self._main = None
            self._is_stale = True
        return found

    def _ended(self, key: object, branch: Decoding) -> None:
        del self._branches[key]
        self._forget(branch.sounds)
        if not branch.has_started:
            return
        resident = branch.resident
        resident.is_busy = False
        if branch.asked.is_kept and not branch.has_failed:
            self._answered = resident
        else:
            self._shop.residency.free(resident)

    def break_off(self, error: EngineError) -> None:
        """See `Attendant`."""
        for branch in list(self._branches.values()):
            branch.fail(error)
        self._main_failed(error)

    def close(self) -> None:
        """Free everything."""
        for branch in list(self._branches.values()):
            branch.cancel()
        if self._main is not None:
            self._shop.scheduler.remove(self._main)
        if self._folding is not None:
            self._folding.drop()
        for commit in self._commits:
            commit.tell(Committed(commit.usage))
        self._commits.clear()
        for sound in [*self._open, *self._record.sounds]:
            self._shop.device.forget(sound)
        self._shop.residency.free_all(self)
        self._main, self._folding = None, None
        self._is_due = self._may_fold = False
