"""Continuous speech in segments that can be translated one by one.

Nobody's turn ends here: somebody speaks for hours. A segment ends at a pause, which may be
the shorter the longer the segment is, so that a phrase is not torn apart and nobody waits
for long. Every sample of speech is in one segment, and segments follow each other in order.
All positions are samples at 16 kHz on the session's sample clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Samples
from agent.config import VadSettings
from agent.session.commands import Cut, Forget, Hear
from agent.session.listening import Turn
from agent.session.outbox import NewId, Outbox
from agent.vad import events as vad_events
from agent.vad.segmenter import Segmenter

PAUSE_MS = 400
"""A pause between phrases, of a segment that is not long yet."""

LONG_SEGMENT_MS = 12_000
"""From here on the pause that ends a segment shrinks …"""

LONGEST_SEGMENT_MS = 26_000
"""… to one frame here; a model hears less than 30 s in one piece."""

STALL_S = 2.0
"""Audio that stops coming for so long ends a segment: what was said is not kept waiting.

Counted from when the last of it was heard. What waited for the engine came long before, from a
client that perhaps waited for us: it has that time to go on."""

_FRAME_MS = FRAME_SAMPLES // SAMPLES_PER_MS
_NEVER_MS = 600_000


def pause_that_ends_ms(segment_ms: int) -> int:
    """How long a pause ends a segment of this length."""
    share = (LONGEST_SEGMENT_MS - segment_ms) / (LONGEST_SEGMENT_MS - LONG_SEGMENT_MS)
    return _FRAME_MS + int((PAUSE_MS - _FRAME_MS) * min(1.0, max(0.0, share)))


def continuous(vad: VadSettings) -> VadSettings:
    """The server's VAD settings for speech that goes on and on.

    A single word counts, early work at every pause would be for nothing, and without any
    pause a segment is cut into clips as a long turn is.
    """
    return vad.model_copy(
        update={
            "min_speech_ms": min(vad.min_speech_ms, 2 * _FRAME_MS),
            "early_pause_ms": _NEVER_MS,
            "silence_duration_ms": PAUSE_MS,
            "max_turn_s": 2 * vad.clip_hard_limit_s,
        }
    )


class Segments:
    """The input side of a translation session.

    Args:
        vad: The server's VAD settings.
        outbox: Where commands for the engine go.
        new_id: Makes item ids.
        begun: Called before the first sample of a segment is heard.
        ended: Called with each segment, still open in the engine.
    """

    def __init__(
        self,
        vad: VadSettings,
        outbox: Outbox,
        new_id: NewId,
        begun: Callable[[], None],
        ended: Callable[[Turn], None],
    ) -> None:
        self._outbox = outbox
        self._new_id = new_id
        self._begun = begun
        self._ended = ended
        self._segmenter = Segmenter(continuous(vad))
        self._now = self._arrived_at = self._heard_at = 0.0
        self._item_id: str | None = None
        self._start_sample = 0
        self._clips = 0

    @property
    def open_samples(self) -> int:
        """Samples heard of the open segment, once it is surely speech; 0 when there is none."""
        return self._segmenter.turn_samples if self._segmenter.in_turn else 0

    @property
    def position_sample(self) -> int:
        """Samples received so far."""
        return self._segmenter.position_sample

    @property
    def deadline(self) -> float | None:
        """When an open segment ends if no more audio comes; None when there is none."""
        return self._heard_at + STALL_S if self._segmenter.hearing else None

    def is_stalled(self, now: float) -> bool:
        """Whether `tick` will end the open segment."""
        return self.deadline is not None and now >= self.deadline

    def receive(
        self,
        samples: Samples,
        probabilities: NDArray[np.float32],
        now: float,
        arrived_at: float,
    ) -> None:
        """Take scored audio; see `Listening.receive`."""
        self._now = self._heard_at = now
        self._arrived_at = arrived_at
        for index, start in enumerate(range(0, len(samples), FRAME_SAMPLES)):
            segment_ms = self._segmenter.turn_samples // SAMPLES_PER_MS
            self._segmenter.silence_duration_ms = pause_that_ends_ms(segment_ms)
            frame = samples[start : start + FRAME_SAMPLES]
            self._handle(self._segmenter.push(frame, float(probabilities[index])))

    def tick(self, now: float) -> None:
        """End the open segment when audio has stopped coming (mute, lost network)."""
        self._now = now
        if self.is_stalled(now):
            self._handle(self._segmenter.stop(vad_events.StopReason.STALLED))

    def flush(self, now: float) -> None:
        """End the open segment: no more will come."""
        self._now = now
        self._handle(self._segmenter.stop(vad_events.StopReason.COMMITTED))

    def _handle(self, events: Iterable[vad_events.SegmentEvent]) -> None:
        for event in events:
            match event:
                case vad_events.Heard(samples=samples):
                    self._open()
                    self._outbox.put(Hear(samples))
                case vad_events.Cut(keep_samples=keep_samples):
                    self._clips += 1
                    self._outbox.put(Cut(keep_samples))
                case vad_events.Misfire():
                    self._item_id = None
                    self._outbox.put(Forget())
                case vad_events.Stopped():
                    self._end(event)

    def _open(self) -> None:
        if self._item_id is None:
            self._item_id = self._new_id("item")
            self._clips = 1
            self._start_sample = self._segmenter.position_sample - self._segmenter.turn_samples
            self._begun()

    def _end(self, event: vad_events.Stopped) -> None:
        assert self._item_id is not None
        item_id, self._item_id = self._item_id, None
        # Audio comes in real time, or nobody asks how long ago something was said.
        silence_s = (event.end_sample - event.speech_end_sample) / SAMPLE_RATE_HZ
        self._ended(
            Turn(
                item_id=item_id,
                announced=False,
                start_sample=self._start_sample,
                end_sample=event.end_sample,
                speech_end_sample=event.speech_end_sample,
                speech_ended_at=self._arrived_at - silence_s,
                ended_at=self._now,
                clips=self._clips,
                reason=event.reason.value,
            )
        )
