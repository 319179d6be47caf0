"""Feeds a segmenter frame by frame, and keeps what comes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from agent.audio.pcm import Samples
from agent.config import VadSettings
from agent.vad.events import Heard, SegmentEvent, StopReason
from agent.vad.segmenter import Segmenter
from tests.helpers.segments import Listener

F = 512  # samples of one frame; with `vad()`: hearing 2, speech 4, misfire 7, pause 6, silence 16
PREFIX = 10
SECOND = 16_000


def vad(**changes: Any) -> VadSettings:
    """The defaults, but for four frames that make a turn."""
    return VadSettings(**({"min_speech_ms": 128} | changes))


class Run:
    """Feeds frames that are told apart by their values, and keeps what comes out."""

    def __init__(self, settings: VadSettings | None = None, *, manual: bool = False) -> None:
        self.segmenter = Segmenter(settings or vad(), manual=manual)
        self.listener = Listener(manual=manual)
        self.events: list[SegmentEvent] = []

    def push(self, frames: int, probability: float, level: float = 0.1) -> list[SegmentEvent]:
        """All events of these frames, those that are heard left out."""
        before = len(self.events)
        for _ in range(frames):
            samples = np.full(F, level, np.float32)
            events = self.segmenter.push(samples, probability)
            self.listener.push(samples, events)
            self.events += events
        return without_heard(self.events[before:])

    def speech(self, frames: int) -> list[SegmentEvent]:
        """The same of surely speech."""
        return self.push(frames, 0.9)

    def silence(self, frames: int, level: float = 0.001) -> list[SegmentEvent]:
        """The same of surely none."""
        return self.push(frames, 0.0, level)

    def stop(self, reason: StopReason) -> list[SegmentEvent]:
        """End from outside what is open: all events."""
        events = self.segmenter.stop(reason)
        self.listener.take(events)
        return events


def without_heard(events: Iterable[SegmentEvent]) -> list[SegmentEvent]:
    """What is said about turns and clips."""
    return [event for event in events if not isinstance(event, Heard)]


def heard(events: Iterable[SegmentEvent]) -> list[Samples]:
    """What was heard, piece by piece."""
    return [event.samples for event in events if isinstance(event, Heard)]


def clip_lengths(run: Run) -> list[int]:
    """Commit what is open: the samples of every clip there was."""
    run.stop(StopReason.COMMITTED)
    return [clip.size for turn in run.listener.turns for clip in turn.clips]
