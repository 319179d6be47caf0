"""The listening half of a session: scored audio in, turns out.

Runs the segmenter, carries out what the turn table says and tells the session when a turn
has ended and how long somebody has been speaking. All positions are samples at 16 kHz on
the session's sample clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Samples
from agent.config import VadSettings
from agent.protocol import server_events
from agent.protocol.config import SemanticVad, ServerVad
from agent.session.captions import OpenTurn
from agent.session.commands import Cut, Forget, Hear, Pause, Resume
from agent.session.detection import vad_settings
from agent.session.endpoint import Endpoint
from agent.session.outbox import NewId, Outbox
from agent.session.tokens import TokenEvent
from agent.turns.machine import Action, Floor, next_state
from agent.vad import events as vad_events
from agent.vad.segmenter import Segmenter

# Enough marks for the longest silence limit (10 s) in pieces of 20 ms.
_ARRIVALS_KEPT = 512

Detection = ServerVad | SemanticVad | None


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of the user that has ended.

    Attributes:
        item_id: The item it becomes.
        announced: Whether `speech_started` was sent for it.
        start_sample: First sample heard.
        end_sample: One past the last sample heard.
        speech_end_sample: One past the last sample of speech.
        speech_ended_at: When that sample arrived, on the session's clock, in seconds.
        ended_at: When it was decided that the turn is over, in seconds.
        clips: How many clips it was heard in.
        reason: Why it ended: `silence`, `max_turn`, `stalled`, `committed`; `idle` when it
            never was one.
    """

    item_id: str
    announced: bool
    start_sample: int
    end_sample: int
    speech_end_sample: int
    speech_ended_at: float
    ended_at: float
    clips: int
    reason: str

    @property
    def turn_end_delay_ms(self) -> float:
        """From the true end of speech to the decision that the turn is over."""
        return (self.ended_at - self.speech_ended_at) * 1000

    @property
    def audio_s(self) -> float:
        """Seconds heard."""
        return (self.end_sample - self.start_sample) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the open turn is.

    Attributes:
        speech_ms: Speech in it, pauses not counted.
        position_ms: Audio received, since the session began.
        arrived_at: When the last of it arrived, in seconds.
    """

    speech_ms: int
    position_ms: int
    arrived_at: float


class TurnTaker(Protocol):
    """Who is told about turns."""

    def turn_ended(self, turn: Turn) -> None:
        """The turn is over; its utterance is still open in the engine."""

    def frame_heard(self, likelihood: float, samples: int, now: float) -> None:
        """One more frame was scored; it counts as speech where `likelihood` is 1 or more."""

    def speech_continues(self, progress: Progress, now: float) -> None:
        """Somebody speaks, or pauses, in the open turn."""

    def speaker_pauses(self, now: float) -> None:
        """The speaker paused; the engine knows."""

    def speaker_goes_on(self, now: float) -> None:
        """The speaker goes on; the engine does not know yet."""

    def speech_forgotten(self, now: float) -> None:
        """What was heard is no turn; the engine does not know yet."""


class Listening:
    """The input side of one session.

    Args:
        base: The server's VAD settings.
        detection: How turns are found; None when the client commits them itself.
        outbox: Where events and commands go.
        new_id: Makes item ids.
        turns: Who is told about turns.
        endpoint: Judges pauses for `semantic_vad`.
    """

    def __init__(
        self,
        base: VadSettings,
        detection: Detection,
        outbox: Outbox,
        new_id: NewId,
        turns: TurnTaker,
        *,
        endpoint: Endpoint,
    ) -> None:
        self._base = base
        self._outbox = outbox
        self._new_id = new_id
        self._turns = turns
        self._floor = Floor.FREE
        self._manual = detection is None
        self._endpoint = endpoint
        self._endpoint.configure(detection)
        self._settings = vad_settings(base, endpoint.settings, detection)
        self._segmenter = Segmenter(self._settings, manual=self._manual)
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=_ARRIVALS_KEPT)
        self._now = 0.0
        self._last_audio_at: float | None = None
        # Later than it came where it waited: for a worker that was busy, or for the engine.
        self._heard_at = 0.0
        self._item_id: str | None = None
        self._announced = False
        self._start_sample = 0
        self._clips = 0

    @property
    def is_manual(self) -> bool:
        """Whether the client commits its turns itself."""
        return self._manual

    @property
    def is_open(self) -> bool:
        """Whether something is being heard."""
        return self._floor is not Floor.FREE

    @property
    def in_turn(self) -> bool:
        """Whether a turn is open that was announced."""
        return self._floor in {Floor.SPEAKING, Floor.PAUSED}

    @property
    def position_sample(self) -> int:
        """Samples received so far."""
        return self._segmenter.position_sample

    @property
    def open_s(self) -> float:
        """Seconds heard in the open turn."""
        return self._segmenter.turn_samples / SAMPLE_RATE_HZ

    @property
    def open_turn(self) -> OpenTurn | None:
        """What is being spoken, once that is sure."""
        if self._item_id is None or not (self._announced or self._manual):
            return None
        paused = self._floor is Floor.PAUSED
        return OpenTurn(self._item_id, self._segmenter.turn_samples, paused)

    @property
    def deadline(self) -> float | None:
        """When an open turn ends if no more audio comes; None when nothing can."""
        if self._manual or not self.is_open or self._last_audio_at is None:
            return None
        return self._heard_at + self._segmenter.silence_duration_ms / 1000

    def is_stalled(self, now: float) -> bool:
        """Whether `tick` will end the open turn."""
        return self.deadline is not None and now >= self.deadline

    def receive(
        self,
        samples: Samples,
        probabilities: NDArray[np.float32],
        now: float,
        arrived_at: float,
        start_threshold: float = 0.0,
    ) -> None:
        """Take audio.

        Args:
            samples: float32[T]. With turn detection: whole frames of 512, except at the end
                of what the client has sent so far.
            probabilities: float32[ceil(T / 512)], how likely each frame is speech; ignored
                (and may be empty) when the client commits its turns itself.
            now: The time, in seconds.
            arrived_at: When the last of it arrived, in seconds.
            start_threshold: While no turn is announced, less likely frames are no speech.
        """
        self._now = self._heard_at = now
        self._last_audio_at = arrived_at
        self._arrivals.append((self.position_sample + len(samples), arrived_at))
        for index, start in enumerate(range(0, len(samples), FRAME_SAMPLES)):
            frame = samples[start : start + FRAME_SAMPLES]
            probability = float(probabilities[index]) if index < len(probabilities) else 0.0
            if probability < start_threshold and not self.in_turn:
                probability = 0.0
            self._handle(self._segmenter.push(frame, probability))
            if self._floor is Floor.SPEAKING:
                self._watch_silence()
            if self.in_turn:
                self._turns.speech_continues(self._progress(arrived_at), now)
            if not self._manual:
                self._turns.frame_heard(probability / self._settings.threshold, len(frame), now)

    def _progress(self, arrived_at: float) -> Progress:
        return Progress(
            speech_ms=self._segmenter.speech_samples // SAMPLES_PER_MS,
            position_ms=self._segmenter.position_sample // SAMPLES_PER_MS,
            arrived_at=arrived_at,
        )

    def tick(self, now: float) -> None:
        """End the open turn when frames have stopped coming (mute, lost network)."""
        self._now = now
        if self.is_stalled(now):
            self._handle(self._segmenter.stop(vad_events.StopReason.STALLED))

    def receive_turn_score(self, number: int, probability: float, now: float) -> None:
        """Take how likely the speaker has finished in pause `number`; it may be over by now."""
        self._wait_for(self._endpoint.receive_score(number, probability), now)

    def receive_words(self, event: TokenEvent, now: float) -> bool:
        """Take what a branch gave; False when it is none that judges a pause."""
        if not self._endpoint.receive_words(event):
            return False
        self._wait_for(self._endpoint.silence_needed_ms, now)
        return True

    def _wait_for(self, needed_ms: int | None, now: float) -> None:
        """The turn ends after so much silence; at once if there was as much already."""
        if needed_ms is None:
            return
        self._now = now
        self._segmenter.silence_duration_ms = needed_ms
        silent_for = self._segmenter.silence_samples
        if silent_for >= needed_ms * SAMPLES_PER_MS and not self._segmenter.is_unsure:
            self._handle(self._segmenter.stop(vad_events.StopReason.SILENCE))

    def commit(self, now: float) -> None:
        """End the open turn because the client says so."""
        self._now = now
        self._handle(self._segmenter.stop(vad_events.StopReason.COMMITTED))

    def commit_quiet(self, now: float) -> Turn:
        """Make a turn of the silence there is: nobody has spoken for too long.

        It holds the last of what came and is in no other turn (the pre-roll), or a frame of
        digital silence when nothing came.
        """
        samples = self._segmenter.take_pre_roll()
        end = self.position_sample
        self._outbox.put(Hear(samples if len(samples) else np.zeros(FRAME_SAMPLES, np.float32)))
        return Turn(
            item_id=self._new_id("item"),
            announced=False,
            start_sample=end - len(samples),
            end_sample=end,
            speech_end_sample=end,
            speech_ended_at=now,
            ended_at=now,
            clips=1,
            reason="idle",
        )

    def clear(self, now: float) -> None:
        """Forget what is heard and not committed."""
        self._now = now
        self._handle(self._segmenter.reset())

    def configure(self, detection: Detection, now: float) -> None:
        """Change how turns are found; what is being heard stays open."""
        self._now = now
        self._settings = vad_settings(self._base, self._endpoint.settings, detection)
        self._manual = detection is None
        self._endpoint.configure(detection)
        self._handle(self._segmenter.configure(self._settings, manual=self._manual))

    def _handle(self, events: Iterable[vad_events.SegmentEvent]) -> None:
        for event in events:
            self._floor, action = next_state(self._floor, event)
            self._act(action, event)

    def _act(self, action: Action, event: vad_events.SegmentEvent) -> None:
        match action, event:
            case Action.HEAR, vad_events.Heard(samples=samples, reached_back=reached_back):
                self._open_turn()
                # Noise before the first word is nothing that a judge of pauses has learnt.
                self._endpoint.hear(samples[reached_back:])
                self._outbox.put(Hear(samples))
            case Action.ANNOUNCE, vad_events.SpeechStarted(start_sample=start):
                assert self._item_id is not None
                self._announced = True
                self._outbox.send(
                    server_events.speech_started(self._item_id, start // SAMPLES_PER_MS)
                )
            case Action.CUT, vad_events.Cut(keep_samples=keep):
                self._clips += 1
                self._outbox.put(Cut(keep))
            case Action.START_EARLY_WORK, _:
                self._outbox.put(Pause())
                self._endpoint.pause(self._segmenter.silence_samples)
                self._turns.speaker_pauses(self._now)
            case Action.DROP_EARLY_WORK, _:
                self._turns.speaker_goes_on(self._now)
                self._outbox.put(Resume())
                self._endpoint.resume()
                self._wait_as_usual()
            case Action.FORGET, _:
                self._item_id = None
                self._turns.speech_forgotten(self._now)
                self._outbox.put(Forget())
                self._endpoint.over()
                self._wait_as_usual()
            case Action.END_TURN, vad_events.Stopped():
                self._endpoint.over()
                self._wait_as_usual()
                self._end_turn(event)

    def _watch_silence(self) -> None:
        """A silence is judged before it is long enough for a pause."""
        if (silence_samples := self._segmenter.silence_samples) > 0:
            self._endpoint.silent(silence_samples)
        elif self._endpoint.is_asked:
            self._endpoint.resume()
            self._wait_as_usual()

    def _wait_as_usual(self) -> None:
        """The next pause is not judged yet."""
        self._segmenter.silence_duration_ms = self._settings.silence_duration_ms

    def _open_turn(self) -> None:
        if self._item_id is None:
            self._item_id = self._new_id("item")
            self._announced = False
            self._clips = 1
            self._start_sample = self.position_sample - self._segmenter.turn_samples

    def _end_turn(self, event: vad_events.Stopped) -> None:
        assert self._item_id is not None
        item_id, self._item_id = self._item_id, None
        if self._announced:
            end_ms = event.end_sample // SAMPLES_PER_MS
            self._outbox.send(server_events.speech_stopped(item_id, end_ms))
        self._turns.turn_ended(
            Turn(
                item_id=item_id,
                announced=self._announced,
                start_sample=self._start_sample,
                end_sample=event.end_sample,
                speech_end_sample=event.speech_end_sample,
                speech_ended_at=self._arrival_of(event.speech_end_sample),
                ended_at=self._now,
                clips=self._clips,
                reason=event.reason.value,
            )
        )

    def _arrival_of(self, sample: int) -> float:
        """When the sample before position `sample` arrived."""
        assert self._last_audio_at is not None
        arrived_at = self._last_audio_at
        for position, time in reversed(self._arrivals):
            if position < sample:
                break
            arrived_at = time
        return arrived_at
