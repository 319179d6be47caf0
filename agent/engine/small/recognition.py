"""Who is recognised next: one thread, urgent work first, speakers in turn."""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

import structlog

from agent.audio.pcm import SAMPLE_RATE_HZ, Samples
from agent.engine.small.recogniser import Heard
from agent.errors import EngineError

log = structlog.get_logger(__name__)


class Urgency(IntEnum):
    """What goes first; the lower the sooner."""

    COMMITTED = 0  # somebody waits for the words
    CLOSED = 1  # a clip that is over, of a turn that is not
    EARLY = 2  # perhaps all of a turn: a pause
    CAPTION = 3  # to show while somebody speaks


class Ear(Protocol):
    """What recognises a clip; see `Recogniser.hear`."""

    def hear(
        self,
        samples: Samples,
        language: str | None = None,
        expected: str | None = None,
        *,
        draft: bool = False,
        translate: bool = False,
    ) -> Heard:
        """Recognise one clip; blocks."""


@dataclass(eq=False, slots=True)
class Speaker:
    """One conversation, as the queue sees it.

    Attributes:
        language: BCP-47 code that was set, or None.
        is_translated: Whether the words are wanted in English too.
        spoken: The language heard last.
        served: When it was served last, as a running number.
    """

    language: str | None = None
    is_translated: bool = False
    spoken: str | None = None
    served: int = 0


@dataclass(eq=False, slots=True)
class Recognition:
    """The recognition of one clip.

    Attributes:
        speaker: Whose clip.
        samples: The clip.
        urgency: Changed by `RecognitionQueue.hurry`.
        language: What is spoken, or None to detect it.
        translate: Whether to say it in English too.
        heard: The result; cancelled when it was dropped before it began.
    """

    speaker: Speaker
    samples: Samples
    urgency: Urgency
    language: str | None
    translate: bool
    heard: asyncio.Future[Heard]
    number: int = field(default_factory=itertools.count(1).__next__)

    @property
    def duration_s(self) -> float:
        """Length of the clip."""
        return self.samples.size / SAMPLE_RATE_HZ

    @property
    def committed_s(self) -> float:
        """Length of the clip while somebody waits for its words, else 0."""
        waiting = self.urgency is Urgency.COMMITTED and not self.heard.done()
        return self.duration_s if waiting else 0.0


class RecognitionQueue:
    """Gives clips to an ear, one after the other, in a thread of its own.

    Methods belong to the event loop that `start` was called in.
    """

    def __init__(self, ear: Ear) -> None:
        self._ear = ear
        self._waiting: list[Recognition] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="recognition", daemon=True)
        self._serving = itertools.count(1)

    def start(self) -> None:
        """Begin to work."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Finish the clip at hand and end; what waits is dropped."""
        with self._changed:
            self._stopping = True
            for recognition in self._waiting:
                recognition.heard.cancel()
            self._waiting.clear()
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def submit(self, speaker: Speaker, samples: Samples, urgency: Urgency) -> Recognition:
        """Have a clip recognised.

        The samples must not change any more. An error is raised from its future, as
        `EngineError`; a result that nobody asks for is no error.
        """
        heard: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
        heard.add_done_callback(_retrieve)
        recognition = Recognition(
            speaker, samples, urgency, speaker.language, speaker.is_translated, heard
        )
        with self._changed:
            self._waiting.append(recognition)
            self._changed.notify()
        return recognition

    def hurry(self, recognition: Recognition, urgency: Urgency) -> None:
        """Make it at least this urgent."""
        with self._changed:
            recognition.urgency = min(recognition.urgency, urgency)

    def drop(self, recognition: Recognition) -> None:
        """Nobody needs it: it is taken out of the queue if it has not begun."""
        with self._changed:
            if recognition in self._waiting:
                self._waiting.remove(recognition)
                recognition.heard.cancel()

    def _work(self) -> None:
        while (recognition := self._next()) is not None:
            speaker = recognition.speaker
            result: Heard | EngineError
            try:
                result = self._ear.hear(
                    recognition.samples,
                    recognition.language,
                    expected=speaker.spoken,
                    draft=recognition.urgency is Urgency.CAPTION,
                    translate=recognition.translate,
                )
            except EngineError as error:
                result = error
            except Exception as error:  # the thread's boundary: one clip fails
                log.exception("recognition failed", clip_s=round(recognition.duration_s, 2))
                result = EngineError(f"recognition failed: {type(error).__name__}")
            self._loop.call_soon_threadsafe(_deliver, recognition, result)

    def _next(self) -> Recognition | None:
        """Wait for work; None to end."""
        with self._changed:
            while not self._waiting and not self._stopping:
                self._changed.wait()
            if self._stopping:
                return None
            chosen = min(
                self._waiting, key=lambda one: (one.urgency, one.speaker.served, one.number)
            )
            self._waiting.remove(chosen)
            chosen.speaker.served = next(self._serving)
            return chosen


def _deliver(recognition: Recognition, result: Heard | EngineError) -> None:
    if recognition.heard.done():
        return
    if isinstance(result, EngineError):
        recognition.heard.set_exception(result)
        return
    if result.language is not None:
        recognition.speaker.spoken = result.language
    recognition.heard.set_result(result)


def _retrieve(heard: asyncio.Future[Heard]) -> None:
    """Mark an error as seen, so that one that nobody waits for makes no noise."""
    if not heard.cancelled():
        heard.exception()
