"""Probabilities in, turns and clips out: the turn-taking rules on one session's samples.

Pure: no clock, thread or model inside. Feed it every sample of a session in order, and
hand what it calls `Heard` to the engine. A turn is, in this order:

    Heard, …, SpeechStarted, (Heard | Paused | Resumed | Cut) …, Stopped
    Heard, …, Misfire                         when it was too short to be speech

Positions count 16 kHz samples since the session began (its *sample clock*). The algorithm
is written down step by step in `docs/turn-taking.md`.
"""

from __future__ import annotations

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.pcm import Samples
from agent.config import VadSettings
from agent.vad.clips import QuietPlace, pause_needed_samples
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
from agent.vad.last_turn import LastTurn
from agent.vad.limits import SegmentLimits, whole_frames
from agent.vad.pre_roll import Piece, PreRoll, joined


class Segmenter:
    """Finds the turns and clips of one session.

    With `manual` the client ends its turns itself: every sample is heard from the first
    on, probabilities are ignored, and only `Heard`, `Cut` and `Stopped` (by `stop`) come.

    All methods return the events in the order in which they are to be acted on. Not for
    use from several threads at once.
    """

    def __init__(self, settings: VadSettings, *, manual: bool = False) -> None:
        self._limits = SegmentLimits.of(settings)
        self._manual = manual
        self.silence_duration_ms = settings.silence_duration_ms
        self._quiet_place = QuietPlace(self._limits.cut_window)
        self._position = 0
        self._pre_roll = PreRoll()  # heard by nobody yet
        self._last_turn = LastTurn()
        self._probability = 0.0  # of the last frame
        self._talking = False  # was the last frame speech? (hysteresis)
        self._run_samples = 0  # speech at the end of the pre-roll
        # A turn was ended in mid-speech: the next speech opens one without more ado.
        self._continuing = False
        self._clear_turn()

    def _clear_turn(self) -> None:
        self._hearing = False
        self._announced = False
        self._paused = False
        self._start_sample = self._position
        self._speech_end_sample = self._position
        self._clip_samples = 0
        self._speech_samples = 0
        self._silence_samples = 0
        self._held_open_samples = 0
        self._unannounced: list[Piece] = []

    @property
    def silence_duration_ms(self) -> int:
        """Silence that ends a turn; may be set at any time and counts from the next frame."""
        return self._silence_duration_ms

    @silence_duration_ms.setter
    def silence_duration_ms(self, duration_ms: int) -> None:
        self._silence_duration_ms = duration_ms
        self._silence_limit = whole_frames(duration_ms)

    @property
    def manual(self) -> bool:
        """Whether the client ends its turns itself."""
        return self._manual

    @property
    def position_sample(self) -> int:
        """Samples pushed since the session began."""
        return self._position

    @property
    def hearing(self) -> bool:
        """Whether something was heard that is neither committed nor forgotten."""
        return self._hearing

    @property
    def in_turn(self) -> bool:
        """Whether a turn is open that will be committed: announced, or manual."""
        return self._hearing and (self._announced or self._manual)

    @property
    def turn_samples(self) -> int:
        """Samples heard since the last `Stopped` or `Misfire`."""
        return self._position - self._start_sample if self._hearing else 0

    @property
    def clip_samples(self) -> int:
        """Samples of the open clip."""
        return self._clip_samples

    @property
    def speech_samples(self) -> int:
        """Samples of frames with speech in what is being heard; 0 when manual."""
        return self._speech_samples

    @property
    def silence_samples(self) -> int:
        """Samples since the last speech of what is being heard; 0 when manual."""
        return self._silence_samples if self._hearing else 0

    @property
    def is_unsure(self) -> bool:
        """Whether somebody may have begun to go on, so that a turn does not end just now.

        Not for longer than a quarter of a second in one pause.
        """
        return (
            self._probability >= self._limits.unsure_probability
            and self._held_open_samples < self._limits.longest_hold
        )

    def push(self, samples: Samples, probability: float) -> list[SegmentEvent]:
        """Take the next frame: float32[n], n <= 512, and the probability that it is speech.

        The array is kept for a while and must not be written to afterwards.

        Raises:
            ValueError: More than one frame.
        """
        count = samples.shape[0]
        if count == 0:
            return []
        if count > FRAME_SAMPLES:
            raise ValueError(f"{count} samples are more than one frame of {FRAME_SAMPLES}")
        if self._manual:
            return self._hear(samples, count) if self._hearing else self._begin(samples, count)
        self._probability = probability
        self._talking = speech = probability >= self._speech_probability
        if self._hearing:
            return self._listen(samples, count, speech)
        return self._wait(samples, count, speech)

    def stop(self, reason: StopReason) -> list[SegmentEvent]:
        """End what is open from outside: the client committed, or frames stopped coming.

        Speech that is not announced yet is announced and committed when the client says
        so, else it is a misfire. When the client commits in mid-speech, the next frame of
        speech opens the next turn at once.
        """
        if reason is StopReason.STALLED:
            self._talking = False
        if not self._hearing:
            return []
        if not self.in_turn and reason is not StopReason.COMMITTED:
            return self._misfire()
        return self._end(reason)

    def take_pre_roll(self) -> Samples:
        """Give out the pre-roll, for a turn of its own; float32[T], maybe empty.

        Speech at its end stays: it may be the beginning of a turn.
        """
        return self._pre_roll.take_quiet(self._limits, self._run_samples)

    def reset(self) -> list[SegmentEvent]:
        """Drop the open turn and the pre-roll: the client cleared its buffer."""
        events: list[SegmentEvent] = [Misfire()] if self._hearing else []
        self._pre_roll.clear()
        self._last_turn.forget()
        self._talking = False
        self._run_samples = 0
        self._continuing = False
        self._clear_turn()
        return events

    def configure(self, settings: VadSettings, *, manual: bool | None = None) -> list[SegmentEvent]:
        """Use other settings from the next frame on; an open turn stays open.

        `manual` switches between turns of the client's and of our own making (None: as it
        is). Manual audio that is open becomes a turn, which silence ends as usual.
        """
        self._limits = SegmentLimits.of(settings)
        self._quiet_place.look_back(self._limits.cut_window)
        self.silence_duration_ms = settings.silence_duration_ms
        if manual is None or manual == self._manual:
            return []
        self._manual = manual
        self._probability = 0.0
        self._talking = False
        self._run_samples = 0
        self._continuing = False
        events: list[SegmentEvent] = []
        if self._paused:
            self._paused = False
            events.append(Resumed(self._position))
        self._silence_samples = 0
        self._speech_end_sample = self._position
        self._unannounced = []
        if self._hearing and not self.in_turn:
            events.append(self._announce())
        return events

    @property
    def _speech_probability(self) -> float:
        """At what the next frame is speech."""
        limits = self._limits
        if self._announced:
            return limits.go_on_probability if self._talking else limits.resume_probability
        if self._last_turn.is_recent(self._position, limits):
            return (
                limits.recent_go_on_probability
                if self._talking
                else limits.recent_start_probability
            )
        return limits.go_on_probability if self._talking else limits.start_probability

    def _may_be_speech(self, samples: Samples) -> bool:
        """Whether the next turn is to have the last frame, if this one has not."""
        if self._probability >= self._limits.maybe_probability:
            return True
        return self._last_turn.may_go_on(samples, self._position, self._limits)

    def _wait(self, samples: Samples, count: int, speech: bool) -> list[SegmentEvent]:
        """No turn is open: keep the pre-roll, watch for speech."""
        if speech:
            self._run_samples += count
            if self._continuing or self._run_samples >= self._limits.hearing_after:
                return self._begin(samples, count)
        else:
            self._run_samples = 0
            if self._continuing:
                self._silence_samples += count
                self._continuing = self._silence_samples < self._limits.misfire_silence
        maybe = self._may_be_speech(samples)
        self._position += count
        self._keep_for_pre_roll((samples, maybe))
        return []

    def _keep_for_pre_roll(self, piece: Piece) -> None:
        self._pre_roll.add(piece, self._limits, self._run_samples)

    def _begin(self, samples: Samples, count: int) -> list[SegmentEvent]:
        """Begin to hear, the pre-roll first."""
        maybe = self._may_be_speech(samples)
        self._position += count
        self._keep_for_pre_roll((samples, maybe))
        held_samples = len(self._pre_roll)
        pieces = self._pre_roll.take()
        self._clear_turn()
        self._hearing = True
        self._last_turn.follow()
        self._start_sample = self._position - held_samples
        self._clip_samples = held_samples
        self._speech_samples = self._run_samples
        self._run_samples = 0
        for held, _ in pieces:
            self._quiet_place.add(held)
        usual = max(self._limits.pre_roll, self._speech_samples)
        events: list[SegmentEvent] = [Heard(joined(pieces), max(0, held_samples - usual))]
        if self._manual:
            return events
        self._last_turn.speak(samples)
        self._unannounced = pieces
        if self._continuing or self._speech_samples >= self._limits.min_speech:
            events.append(self._announce())
        return events

    def _listen(self, samples: Samples, count: int, speech: bool) -> list[SegmentEvent]:
        """Something is being heard: go on, pause, or end it."""
        limits = self._limits
        if self.turn_samples + count > limits.max_turn:
            return self._end(StopReason.MAX_TURN) + self._wait(samples, count, speech)
        events = self._go_on() if speech and self._silence_samples else []
        events += self._hear(samples, count)
        if speech:
            self._speech_samples += count
            self._speech_end_sample = self._position
            self._last_turn.speak(samples)
            if not self._announced and self._speech_samples >= limits.min_speech:
                events.append(self._announce())
            return events
        self._silence_samples += count
        if not self._announced:
            if self._silence_samples >= limits.misfire_silence:
                events += self._misfire()
        elif self._silence_samples >= self._silence_limit:
            if self.is_unsure:
                self._held_open_samples += count
            else:
                events += self._end(StopReason.SILENCE)
        elif not self._paused and self._silence_samples >= limits.early_pause:
            self._paused = True
            events.append(Paused(self._speech_end_sample))
        return events

    def _go_on(self) -> list[SegmentEvent]:
        """Speech follows a silence within the turn, which may be a place to cut.

        Only now: a cut while the silence lasts would leave a clip without any speech when
        the turn ends there.
        """
        events: list[SegmentEvent] = []
        if self._paused:
            self._paused = False
            events.append(Resumed(self._position))
        pause = min(self._silence_samples, self._clip_samples)
        needed = pause_needed_samples(
            self._clip_samples, self._limits.clip_soft, self._limits.clip_hard
        )
        if self._announced and pause >= needed:
            events.append(self._cut(rest_samples=pause // 2, forced=False))
        self._silence_samples = 0
        self._held_open_samples = 0
        return events

    def _hear(self, samples: Samples, count: int) -> list[SegmentEvent]:
        """Add samples to the open clip, cutting it first if it would grow too long."""
        events: list[SegmentEvent] = []
        if self._clip_samples + count > self._limits.clip_hard:
            if not self.in_turn:
                events.append(self._announce())
            events.append(self._cut(rest_samples=self._quiet_place.find(), forced=True))
        maybe = self._may_be_speech(samples)
        self._position += count
        self._clip_samples += count
        self._quiet_place.add(samples)
        if not self.in_turn:
            self._unannounced.append((samples, maybe))
        events.append(Heard(samples))
        return events

    def _cut(self, *, rest_samples: int, forced: bool) -> Cut:
        keep_samples = self._clip_samples - rest_samples
        self._clip_samples = rest_samples
        return Cut(keep_samples, forced=forced)

    def _announce(self) -> SpeechStarted:
        self._announced = True
        self._continuing = False
        self._unannounced = []
        return SpeechStarted(self._start_sample)

    def _misfire(self) -> list[SegmentEvent]:
        """Too little speech: what was heard is pre-roll again."""
        for piece in self._unannounced:
            self._keep_for_pre_roll(piece)
        self._clear_turn()
        return [Misfire()]

    def _end(self, reason: StopReason) -> list[SegmentEvent]:
        events: list[SegmentEvent] = [] if self.in_turn else [self._announce()]
        speech_end = self._position if self._manual else self._speech_end_sample
        events.append(Stopped(self._position, speech_end, reason))
        silence_samples = self._silence_samples
        self._clear_turn()
        if reason is StopReason.STALLED:
            self._last_turn.forget()  # nobody knows how long it has been
        else:
            self._last_turn.end(self._position, speech_end)
        if reason in {StopReason.MAX_TURN, StopReason.COMMITTED} and not self._manual:
            self._silence_samples = silence_samples
            self._continuing = silence_samples < self._limits.misfire_silence
        return events
