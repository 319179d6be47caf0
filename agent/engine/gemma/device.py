"""Does the rows' work on the device: batches in, tokens and soft tokens out.

A fault in a batch is pinned down by doing its rows one by one; only those that fail alone are
told. A step can be done again because a row's length, and what its clip has kept, only change
behind it; the encoder's state, which a failed step may have spoilt, is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
import structlog
import torch

from agent.engine.gemma.cache import Cache
from agent.engine.gemma.encoder import FRAMES_PER_TOKEN
from agent.engine.gemma.graphs import Steps
from agent.engine.gemma.residency import Residency
from agent.engine.gemma.rows import Kind, Row, Work
from agent.engine.gemma.sampling import Draws, Sampler
from agent.engine.gemma.sounds import SoftStore, Sound, Tail
from agent.errors import EngineBusy, EngineError

log = structlog.get_logger(__name__)


class Ears:
    """Slots of the encoder's state, for clips that are being heard.

    Args:
        slots: How many there are.
    """

    def __init__(self, slots: int) -> None:
        self._free = list(range(slots - 1, -1, -1))
        self._heard: dict[Sound, None] = {}

    @property
    def free(self) -> int:
        """How many are left."""
        return len(self._free)

    def listen(self, sounds: Sequence[Sound]) -> None:
        """See that all of these clips have one; they are heard in the same step.

        Raises:
            EngineBusy: There are not so many.
        """
        for sound in sounds:
            if sound.ear is None:
                sound.ear = self.take(sounds)
            self._heard.pop(sound, None)
            self._heard[sound] = None

    def take(self, spared: Sequence[Sound] = ()) -> int:
        """A free one, or that of a clip that nobody goes on with at present.

        Args:
            spared: Clips that keep theirs.

        Raises:
            EngineBusy: There is none.
        """
        if not self._free:
            found = next((one for one in self._heard if one not in spared), None)
            if found is None:
                raise EngineBusy("more people speak than this engine has ears")
            self.leave(found)
        return self._free.pop()

    def leave(self, sound: Sound) -> None:
        """A clip needs none any more, or must be encoded from its beginning; harmless twice."""
        self._heard.pop(sound, None)
        self.give_back(sound.ear)
        sound.ear, sound.seen = None, 0

    def give_back(self, ear: int | None) -> None:
        """One that a clip's end had; harmless for None."""
        if ear is not None:
            self._free.append(ear)


class Device:
    """Runs steps.

    Args:
        steps: The model.
        residency: Whose slots the rows have.
        store: Where soft tokens are kept.
    """

    def __init__(self, steps: Steps, residency: Residency, store: SoftStore) -> None:
        self.steps = steps
        self.shapes = steps.shapes
        self.store = store
        self.ears = Ears(steps.ear.decoder.cache.plan.slots)
        self.sampler = Sampler(steps.logits.shape[1], steps.device)
        self._residency = residency
        self._cache: Cache = steps.ear.decoder.cache
        self._idle_ear = self._cache.plan.slots
        self._no_frames = np.zeros((0, steps.ear.state.mel.shape[1]), np.float32)

    def enter(self) -> None:
        """Make it the current one of the calling thread: that is kept apart for each."""
        if self.steps.device.type == "cuda":
            torch.cuda.set_device(self.steps.device)

    def most_rows(self, kind: Kind) -> int:
        """Rows that one step of a kind takes."""
        wide = kind in {Kind.HEAR, Kind.DECODE}
        return max(self.shapes.buckets if wide else self.shapes.close_buckets)

    def run(self, kind: Kind, works: Sequence[Work]) -> None:
        """Do one step; rows that cannot be done are told so."""
        try:
            self._run(kind, works)
        except Exception as error:  # noqa: BLE001  # the boundary: only those who fail alone fail
            for sound in [work.sound for work in works if work.sound is not None]:
                if kind is Kind.HEAR:
                    sound.seen = 0
            if len(works) > 1:
                for work in works:
                    self.run(kind, [work])
            else:
                self._fail(works[0].row, error)

    def _fail(self, row: Row, error: Exception) -> None:
        if isinstance(error, torch.AcceleratorError):
            raise error  # the device is lost to this process
        if not isinstance(error, EngineError):
            log.error("a step failed", exc_info=error)
            what = "out of memory" if isinstance(error, torch.OutOfMemoryError) else "internal"
            error = EngineError(f"the engine could not do this: {what} error")
        row.fail(error)

    def _run(self, kind: Kind, works: Sequence[Work]) -> None:
        # Those whose logits are wanted first: they are the first rows of the result.
        works = sorted(works, key=lambda work: not work.predicts)
        for work in works:
            self._prepare(work)
        now = perf_counter()
        for work in works:
            if work.predicts and work.row.began_s is None:
                work.row.began_s = now
        step: Callable[[Sequence[Work]], None] = getattr(self, f"_{kind.value}")
        step(works)
        predicting = [work.row for work in works if work.predicts]
        logits = self._weigh(predicting)
        chosen = self._choose(predicting)
        for work in works:
            self._cache.advance(work.row.resident.slot, len(work.tokens))
            work.row.resident.held += work.tokens
        for row, token in zip(predicting, chosen, strict=True):
            if row in logits:
                row.weigh(logits[row])
            row.take(token)

    def _prepare(self, work: Work) -> None:
        resident = work.row.resident
        self._cache.check_room(resident.slot, len(work.tokens))
        if work.row.mark_at == len(resident.held):
            mark = resident.mark
            if mark is None or mark.length != work.row.mark_at:
                self._residency.mark(resident)

    def _weigh(self, rows: Sequence[Row]) -> dict[Row, list[float]]:
        """What rows asked to be told of; few do."""
        return {
            row: self.steps.logits[place, list(row.weighed)].tolist()
            for place, row in enumerate(rows)
            if row.weighed
        }

    def _choose(self, rows: Sequence[Row]) -> list[int]:
        if not rows:
            return []
        draws = [row.draws for row in rows if row.draws is not None]
        assert len(draws) == len(rows)
        steps = [one.step for one in draws]
        try:
            chosen: list[int] = self.sampler.sample(
                self.steps.logits, draws, self.steps.best
            ).tolist()
        except Exception:
            _take_back(draws, steps)
            raise
        return chosen

    # ------------------------------------------------------------ the steps

    def _slots(self, works: Sequence[Work]) -> tuple[list[int], list[int]]:
        residents = [work.row.resident for work in works]
        return [one.slot for one in residents], [len(one.held) for one in residents]

    def _decode(self, works: Sequence[Work]) -> None:
        self.steps.decode(*self._slots(works), [work.text[0] for work in works])

    def _read(self, works: Sequence[Work]) -> None:
        self.steps.read(*self._slots(works), [work.text for work in works])

    def _recall(self, works: Sequence[Work]) -> None:
        softs = []
        for work in works:
            first = work.soft[0].place
            sound = _sound(work)
            softs.append(sound.soft(first, first + len(work.tokens)))
            self.store.touch(sound)
        self.steps.recall(*self._slots(works), softs)

    def _hear(self, works: Sequence[Work]) -> None:
        piece = self.shapes.piece_tokens
        sounds = [_sound(work) for work in works]
        for sound in sounds:
            self._keep_ends(sound, sounds)
        self.ears.listen(sounds)
        ears = [sound.ear for sound in sounds if sound.ear is not None]
        seen = [sound.seen for sound in sounds]
        mels = [
            sound.mel(at * FRAMES_PER_TOKEN, (at + piece) * FRAMES_PER_TOKEN)
            for sound, at in zip(sounds, seen, strict=True)
        ]
        writes = [bool(work.tokens) for work in works]
        self.steps.hear(*self._slots(works), mels, ears, seen, writes)
        made = self.steps.soft[: len(works)].cpu()
        for work, sound, soft in zip(works, sounds, made, strict=True):
            sound.seen += piece
            sound.forget_mel(sound.seen * FRAMES_PER_TOKEN)
            if work.tokens:
                self._keep(sound, soft)

    def _close(self, works: Sequence[Work]) -> None:
        mels, ears, seen = [], [], []
        for work in works:
            soft = work.soft
            if not soft:
                mels.append(self._no_frames)
                ears.append(self._idle_ear)
                seen.append(0)
                continue
            first, last, sound = soft[0], soft[-1], _sound(work)
            end = last.place * FRAMES_PER_TOKEN + last.frames
            mels.append(sound.mel(first.place * FRAMES_PER_TOKEN, end))
            tail = sound.tails.get(work.row)
            ear = sound.ear if tail is None or tail.ear is None else tail.ear
            ears.append(self._idle_ear if ear is None else ear)
            seen.append(first.place)
        self.steps.close(*self._slots(works), mels, ears, seen, [work.text for work in works])
        made = self.steps.soft[: len(works)].cpu()
        for work, soft in zip(works, made, strict=True):
            tokens = work.soft
            if not tokens:
                continue
            sound = _sound(work)
            # A branch may have heard less of it: what it made of its end is not the clip's.
            ends = tokens[-1].place * FRAMES_PER_TOKEN + tokens[-1].frames == sound.frames
            if sound.is_closed and ends and sound.soft_tokens == tokens[0].place:
                self._keep(sound, soft[: len(tokens)])
            self.let_go(sound, work.row)

    # ------------------------------------------------------------ what clips keep

    def _keep(self, sound: Sound, soft: torch.Tensor) -> None:
        sound.keep_soft(soft.clone())
        self.store.touch(sound)
        if sound.is_whole:
            sound.forget_mel(sound.frames)
            if not sound.tails:
                self.ears.leave(sound)

    def _keep_ends(self, sound: Sound, heard: Sequence[Sound]) -> None:
        """The clip's state goes on: branches that need it as it is get a copy."""
        for tail in sound.tails.values():
            if tail.ear is None and tail.begins == sound.seen:
                self._copy_ear(sound, tail, heard)

    def _copy_ear(self, sound: Sound, tail: Tail, heard: Sequence[Sound]) -> None:
        tail.ear = self.ears.take(heard)
        if sound.ear is not None:
            self.steps.ear.state.copy(sound.ear, tail.ear)

    def let_go(self, sound: Sound, row: Row) -> None:
        """A row needs a clip's end no more; harmless if it never did."""
        tail = sound.tails.pop(row, None)
        if tail is not None:
            self.ears.give_back(tail.ear)
        if sound.is_whole and not sound.tails:
            self.ears.leave(sound)

    def forget(self, sound: Sound) -> None:
        """Nobody needs a clip any more."""
        for tail in sound.tails.values():
            self.ears.give_back(tail.ear)
        sound.tails.clear()
        self.ears.leave(sound)
        self.store.forget(sound)
        sound.drop_samples()


def _sound(work: Work) -> Sound:
    assert work.sound is not None
    return work.sound


def _take_back(draws: Sequence[Draws], steps: Sequence[int]) -> None:
    for one, step in zip(draws, steps, strict=True):
        one.step = step
