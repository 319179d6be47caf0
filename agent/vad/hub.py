"""One worker for the audio of all sessions: decode, resample, frame, score in batches.

Sessions await `VadHub.score`. What they ask for within a tick is done together in one
call on one worker thread, so that hundreds of microphones cost one network run a frame
and the event loop only hands things over. Every call takes a bounded share of each
stream's audio in turn: a client that sends a minute at once is done bit by bit beside the
others, and delays them by no more than one such call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.intake import Intake
from agent.audio.pcm import Samples
from agent.errors import LocalError
from agent.vad.scorers import Probabilities, Scorer

Scored: TypeAlias = tuple[Samples, Probabilities]
"""float32[T] at 16 kHz, and float32[ceil(T / 512)]: how likely each frame is speech."""

FRAMES_PER_CALL = 512
"""What one worker call scores, over all streams: 30 ms of Silero on one core."""

MAX_FRAMES_PER_STREAM = 16
MIN_FRAMES_PER_STREAM = 2
"""A 40 ms piece completes at most two frames, so it never waits for a second call."""


@dataclass(eq=False, slots=True)
class VadStream:
    """One session in the hub; opaque to the session."""

    state: Any
    closed: bool = False


@dataclass(eq=False, slots=True)
class _Job:
    """One call of `score` or `flush`, and how far it got."""

    stream: VadStream
    intake: Intake
    data: memoryview
    scored: bool
    flush: bool
    future: asyncio.Future[Scored]
    samples: list[Samples] = field(default_factory=list)
    probabilities: list[Probabilities] = field(default_factory=list)
    done: bool = False
    error: Exception | None = None

    def take_share(self, frames: int) -> Samples:
        """Put about as many frames' worth of bytes through the intake (worker thread)."""
        share_bytes = self.intake.share_bytes(self.data, frames * FRAME_SAMPLES)
        samples = self.intake.push(self.data[:share_bytes])
        self.data = self.data[share_bytes:]
        if not self.data and self.flush:
            samples = np.concatenate((samples, self.intake.flush()))
        self.done = not self.data
        self.samples.append(samples)
        return samples


class VadHub:
    """Scores the audio of many sessions together.

    All methods belong to one event loop; the scorer and the intakes of calls in progress
    belong to the worker thread.

    Args:
        scorer: The model; used by this hub alone.
        tick_ms: How long requests are gathered. A call in an idle hub does not wait.
    """

    def __init__(self, scorer: Scorer[Any], tick_ms: int = 20) -> None:
        self._scorer = scorer
        self._tick_s = tick_ms / 1000
        self._jobs: list[_Job] = []
        self._something_to_do = asyncio.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vad")
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    def open_stream(self) -> VadStream:
        """A place for one more session."""
        return VadStream(self._scorer.new_state())

    def close_stream(self, stream: VadStream) -> None:
        """The session is over: fail what it still waits for. Harmless when closed."""
        stream.closed = True
        self._fail([job for job in self._jobs if job.stream is stream], _closed())

    async def score(
        self, stream: VadStream, intake: Intake, data: bytes, *, scored: bool = True
    ) -> Scored:
        """Put wire bytes through the session's intake and score the frames they complete.

        Calls of one stream are done in the order in which they were made. Cancelling
        loses the audio of that call: only do it when the session ends.

        Args:
            stream: The session's.
            intake: The session's; nobody else may use it until this returns.
            data: Audio in the intake's format.
            scored: False when the client ends its turns itself: no model is run and all
                probabilities are 0.

        Returns:
            float32[n * 512] and float32[n], n >= 0.

        Raises:
            InvalidEvent: The bytes end in the middle of a sample; nothing was taken.
            LocalError: The hub or the stream is closed.
        """
        intake.check(data, in_event=False)
        return await self._submit(stream, intake, data, scored=scored, flush=False)

    async def flush(self, stream: VadStream, intake: Intake, *, scored: bool = True) -> Scored:
        """Get what is still inside the intake, before a commit for example.

        Returns:
            float32[T] of any length and float32[ceil(T / 512)]; a last part of a frame
            is scored as if silence followed it.

        Raises:
            LocalError: The hub or the stream is closed.
        """
        return await self._submit(stream, intake, b"", scored=scored, flush=True)

    async def close(self) -> None:
        """Finish the worker's call in progress, fail all that waits, free the thread."""
        self._closed = True
        self._something_to_do.set()
        if self._runner is not None:
            await self._runner
        self._executor.shutdown()

    async def _submit(
        self, stream: VadStream, intake: Intake, data: bytes, *, scored: bool, flush: bool
    ) -> Scored:
        if self._closed or stream.closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        if self._runner is None:
            self._runner = loop.create_task(self._run(), name="vad hub")
        job = _Job(stream, intake, memoryview(data), scored, flush, loop.create_future())
        self._jobs.append(job)
        self._something_to_do.set()
        return await job.future

    async def _run(self) -> None:
        """Gather, work, hand out; until closed."""
        loop = asyncio.get_running_loop()
        next_tick = loop.time()
        behind = False
        while True:
            await self._something_to_do.wait()
            if not behind and not self._closed:
                await asyncio.sleep(next_tick - loop.time())
            if self._closed:
                self._fail(self._jobs, _closed())
                return
            next_tick = loop.time() + self._tick_s
            batch = self._next_batch()
            call = loop.run_in_executor(self._executor, self._work, batch)
            await asyncio.wait([call])
            if error := call.exception():
                self._fail(batch, error)
            behind = self._hand_out(batch)

    def _next_batch(self) -> list[_Job]:
        """The oldest job of every stream."""
        self._jobs = [job for job in self._jobs if not job.future.done()]
        first: dict[int, _Job] = {}
        for job in self._jobs:
            first.setdefault(id(job.stream), job)
        return list(first.values())

    def _work(self, batch: Sequence[_Job]) -> None:
        """Advance every job by its share (worker thread)."""
        if not batch:
            return
        share = FRAMES_PER_CALL // len(batch)
        share = max(MIN_FRAMES_PER_STREAM, min(MAX_FRAMES_PER_STREAM, share))
        to_score: list[tuple[_Job, Samples, Probabilities]] = []
        for job in batch:
            try:
                frames = _as_frames(job.take_share(share))
            except Exception as error:  # noqa: BLE001  # the boundary: it fails no other stream
                job.error = error
                continue
            probabilities = np.zeros(len(frames), dtype=np.float32)
            job.probabilities.append(probabilities)
            if job.scored and len(frames):
                to_score.append((job, frames, probabilities))
        index = 0
        while to_score := [entry for entry in to_score if len(entry[1]) > index]:
            scores = self._scorer.score(
                [job.stream.state for job, _, _ in to_score],
                np.stack([frames[index] for _, frames, _ in to_score]),
            )
            for (_, _, probabilities), score in zip(to_score, scores, strict=True):
                probabilities[index] = score
            index += 1

    def _hand_out(self, batch: Sequence[_Job]) -> bool:
        """Resolve what is done; whether anything of the batch is left to do."""
        for job in batch:
            if job.error is not None:
                self._fail([job], job.error)
            elif job.done and not job.future.done():
                job.future.set_result((_joined(job.samples), _joined(job.probabilities)))
        self._jobs = [job for job in self._jobs if not job.future.done()]
        if not self._jobs and not self._closed:
            self._something_to_do.clear()
        return any(not job.future.done() for job in batch)

    @staticmethod
    def _fail(jobs: Sequence[_Job], error: BaseException) -> None:
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(error)


def _closed() -> LocalError:
    return LocalError("the voice activity detector is closed")


def _as_frames(samples: Samples) -> Samples:
    """float32[T] as float32[ceil(T / 512), 512], silence after the end."""
    missing = -samples.size % FRAME_SAMPLES
    whole = np.pad(samples, (0, missing)) if missing else samples
    return whole.reshape(-1, FRAME_SAMPLES)


def _joined(pieces: Sequence[Samples]) -> Samples:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
