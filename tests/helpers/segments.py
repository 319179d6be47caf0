"""A plain model of what a listener makes of segment events, and frames to feed them from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.audio.pcm import Samples
from agent.vad.events import (
    Cut,
    Heard,
    Misfire,
    Paused,
    Resumed,
    SegmentEvent,
    SpeechStarted,
    Stopped,
    StopReason,
)

MAX_CLIP_SAMPLES = 30 * 16_000


@dataclass(frozen=True)
class HeardTurn:
    """A committed turn: its place on the sample clock and its clips."""

    start: int
    end: int
    clips: list[Samples]
    reason: StopReason


class Listener:
    """Does what an engine does with the events, and asserts that each is legal.

    Attributes:
        turns: What was committed.
        manual: Whether turns are manual now; set it when the segmenter is configured.
        announced: Start of the open turn, once it was announced.
        paused_at: The open pause.
    """

    def __init__(self, *, manual: bool = False) -> None:
        self.turns: list[HeardTurn] = []
        self.manual = manual
        self.announced: int | None = None
        self.paused_at: int | None = None
        self.position = 0
        self.heard_samples = 0
        self.clip_samples = 0
        self._pieces: list[Samples] = []
        self._heard: list[Samples] = []
        self._cuts: list[int] = []

    @property
    def input(self) -> Samples:
        """All samples pushed so far."""
        self._pieces = [np.concatenate([np.zeros(0, np.float32), *self._pieces])]
        return self._pieces[0]

    @property
    def hears(self) -> bool:
        """Whether an utterance is open."""
        return bool(self._heard)

    def push(self, samples: Samples, events: Iterable[SegmentEvent]) -> None:
        """`samples` were pushed and gave `events`."""
        self._pieces.append(samples)
        self.position += samples.size
        self.take(events)

    def take(self, events: Iterable[SegmentEvent]) -> None:
        """Act on events."""
        for event in events:
            self._act(event)
            assert self.clip_samples < MAX_CLIP_SAMPLES

    def _act(self, event: SegmentEvent) -> None:
        match event:
            case Heard(samples):
                assert samples.size > 0
                assert samples.dtype == np.float32
                self._heard.append(samples)
                self.heard_samples += samples.size
                self.clip_samples += samples.size
            case SpeechStarted(start):
                assert not self.manual
                assert self.hears
                assert self.announced is None
                assert start >= self._last_end
                self.announced = start
            case Paused(at):
                assert not self.manual
                assert self.announced is not None
                assert self.paused_at is None
                assert self.announced < at <= self.position
                self.paused_at = at
            case Resumed(at):
                assert self.paused_at is not None
                assert self.paused_at < at <= self.position
                self.paused_at = None
            case Cut(keep, forced=_):
                assert self.announced is not None or self.manual
                assert 1 <= keep <= self.clip_samples
                self._cuts.append(self.heard_samples - self.clip_samples + keep)
                self.clip_samples -= keep
            case Misfire():
                assert self.hears
                self._close()
            case Stopped():
                self._stop(event)

    def _stop(self, event: Stopped) -> None:
        assert self.hears
        assert self.announced is not None or self.manual
        start = event.end_sample - self.heard_samples
        if self.announced is not None:
            assert start == self.announced
        assert self._last_end <= start < event.speech_end_sample <= event.end_sample
        assert event.end_sample <= self.position
        heard = np.concatenate(self._heard)
        np.testing.assert_array_equal(heard, self.input[start : event.end_sample])
        clips = np.split(heard, self._cuts)
        assert all(0 < clip.size < MAX_CLIP_SAMPLES for clip in clips)
        self.turns.append(HeardTurn(start, event.end_sample, clips, event.reason))
        self._close()

    def _close(self) -> None:
        self._heard = []
        self._cuts = []
        self.heard_samples = self.clip_samples = 0
        self.announced = self.paused_at = None

    @property
    def _last_end(self) -> int:
        return self.turns[-1].end if self.turns else 0

    def committed(self) -> NDArray[np.bool_]:
        """bool[T]: which samples of the input are in a committed clip."""
        mask = np.zeros(self.position, dtype=bool)
        for turn in self.turns:
            assert not mask[turn.start : turn.end].any(), "a sample is in two committed clips"
            mask[turn.start : turn.end] = True
        return mask
