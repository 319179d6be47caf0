"""For whatever comes in: clips are short, nothing is lost, nothing is heard twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.pcm import Samples
from agent.config import VadSettings
from agent.vad.events import StopReason
from agent.vad.limits import SegmentLimits, whole_frames
from agent.vad.segmenter import Segmenter
from tests.helpers.segments import Listener

MAX_TURN_S = 30.5  # the shortest that may be set, nearly: the longest turn must be reached

durations_ms = st.one_of(st.integers(0, 700), st.sampled_from([0, 1, 32, 33, 600_000]))


@st.composite
def vad_settings(draw: st.DrawFn) -> VadSettings:
    """Any settings; short clips more often than not, so that many are cut."""
    hard_s = draw(st.one_of(st.floats(1.02, 4.0), st.floats(1.02, 29.99)))
    soft_s = draw(st.floats(1.01, hard_s, exclude_max=True))
    return VadSettings(
        threshold=draw(st.floats(0.01, 0.99)),
        prefix_padding_ms=draw(durations_ms),
        reach_back_s=draw(st.floats(0.0, 15.0)),
        hearing_after_ms=draw(durations_ms),
        min_speech_ms=draw(durations_ms),
        misfire_silence_ms=draw(durations_ms),
        early_pause_ms=draw(durations_ms),
        silence_duration_ms=draw(durations_ms),
        max_turn_s=draw(st.sampled_from([30.001, MAX_TURN_S, 120.0])),
        clip_soft_limit_s=soft_s,
        clip_hard_limit_s=hard_s,
        cut_window_s=draw(st.floats(0.11, min(hard_s, 14.9), exclude_max=True)),
    )


@dataclass(frozen=True)
class Audio:
    """A stretch of frames; `speech` is the share of them that scores high."""

    frames: int
    speech: float
    loudness: float
    piece_samples: int
    seed: int

    def generate(self) -> list[tuple[Samples, float]]:
        """Pieces and their probabilities."""
        rng = np.random.default_rng(self.seed)
        audio = rng.uniform(-1, 1, self.frames * FRAME_SAMPLES).astype(np.float32)
        audio *= np.float32(self.loudness)
        starts = range(0, audio.size, self.piece_samples)
        high = rng.random(len(starts)) < self.speech
        noise = rng.random(len(starts)) * 0.6
        return [
            (
                audio[start : start + self.piece_samples],
                float(1 - noise[i] if high[i] else noise[i]),
            )
            for i, start in enumerate(starts)
        ]


@dataclass(frozen=True)
class Stop:
    reason: StopReason


@dataclass(frozen=True)
class Reset:
    pass


@dataclass(frozen=True)
class Configure:
    settings: VadSettings
    manual: bool | None


@dataclass(frozen=True)
class SetSilence:
    duration_ms: int


Step = Audio | Stop | Reset | Configure | SetSilence

audio = st.builds(
    Audio,
    frames=st.one_of(st.integers(1, 60), st.integers(1, 1_100)),
    speech=st.sampled_from([0.0, 0.02, 0.5, 0.9, 1.0]),
    loudness=st.sampled_from([0.0, 0.001, 0.3, 1.0]),
    piece_samples=st.one_of(st.just(512), st.integers(100, 512)),
    seed=st.integers(0, 1_000),
)
others = st.one_of(
    st.builds(Stop, st.sampled_from(StopReason)),
    st.builds(Reset),
    st.builds(Configure, vad_settings(), st.sampled_from([None, None, True, False])),
    st.builds(SetSilence, durations_ms),
)
steps = st.lists(st.one_of(audio, audio, others), min_size=1, max_size=12)


class Machine:
    """A segmenter and the model of it, side by side."""

    def __init__(self, vad: VadSettings, *, manual: bool) -> None:
        self.vad = vad
        self.segmenter = Segmenter(vad, manual=manual)
        self.listener = Listener(manual=manual)

    def do(self, step: Step) -> None:
        match step:
            case Audio():
                for samples, probability in step.generate():
                    self.listener.push(samples, self.segmenter.push(samples, probability))
                    self.compare()
            case Stop(reason):
                before = len(self.listener.turns)
                was_in_turn = self.segmenter.in_turn
                self.listener.take(self.segmenter.stop(reason))
                assert not self.listener.hears
                assert len(self.listener.turns) >= before + was_in_turn
                assert all(turn.reason is reason for turn in self.listener.turns[before:])
            case Reset():
                self.listener.take(self.segmenter.reset())
                assert not self.listener.hears
            case Configure(vad, manual):
                events = self.segmenter.configure(vad, manual=manual)
                self.vad = vad
                self.listener.manual = self.segmenter.manual
                self.listener.take(events)
            case SetSilence(duration_ms):
                self.segmenter.silence_duration_ms = duration_ms
        self.compare()

    def compare(self) -> None:
        """The segmenter and the model agree."""
        segmenter, listener = self.segmenter, self.listener
        assert segmenter.position_sample == listener.position
        assert segmenter.hearing == listener.hears
        assert segmenter.in_turn == bool(
            listener.hears and (listener.announced is not None or listener.manual)
        )
        assert segmenter.turn_samples == listener.heard_samples
        assert segmenter.clip_samples == listener.clip_samples
        assert 0 <= segmenter.speech_samples <= segmenter.turn_samples


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(vad=vad_settings(), manual=st.booleans(), program=steps)
@example(
    # Settings that would hold back ten minutes before anything is heard.
    vad=VadSettings(prefix_padding_ms=600_000, hearing_after_ms=600_000),
    manual=False,
    program=[Audio(1_100, 0.0, 0.1, 512, 0), Audio(1_100, 1.0, 0.1, 512, 0)],
)
@example(
    # Too little speech to be announced, and a silence that never makes it a misfire.
    vad=VadSettings(misfire_silence_ms=600_000, min_speech_ms=600_000),
    manual=False,
    program=[Audio(5, 1.0, 0.1, 512, 0), Audio(1_100, 0.0, 0.1, 512, 0)],
)
@example(
    # Digital silence all along: every place to cut is equally quiet.
    vad=VadSettings(),
    manual=True,
    program=[Audio(1_100, 0.0, 0.0, 512, 0), Stop(StopReason.COMMITTED)],
)
@example(
    # A turn of a client's own making, longer than the longest turn, becomes ours.
    vad=VadSettings(max_turn_s=MAX_TURN_S),
    manual=True,
    program=[
        Audio(1_100, 1.0, 0.1, 512, 0),
        Configure(VadSettings(max_turn_s=MAX_TURN_S), manual=False),
        Audio(100, 1.0, 0.1, 512, 0),
    ],
)
def test_clips_are_short_and_joined_they_are_the_turn(
    vad: VadSettings, manual: bool, program: Sequence[Step]
) -> None:
    machine = Machine(vad, manual=manual)
    for step in program:
        machine.do(step)
    machine.do(Stop(StopReason.COMMITTED))
    machine.listener.committed()
    for turn in machine.listener.turns:
        assert sum(clip.size for clip in turn.clips) == turn.end - turn.start


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    vad=vad_settings(),
    program=st.lists(
        st.one_of(
            audio, audio, st.just(Stop(StopReason.COMMITTED)), st.builds(SetSilence, durations_ms)
        ),
        min_size=1,
        max_size=8,
    ),
)
@example(
    # The longest turn ends in the middle of a word.
    vad=VadSettings(max_turn_s=MAX_TURN_S),
    program=[Audio(955, 1.0, 0.1, 512, 0)],
)
def test_no_speech_is_lost_and_no_turn_is_too_long(
    vad: VadSettings, program: Sequence[Step]
) -> None:
    machine = Machine(vad, manual=False)
    long_enough = max(
        FRAME_SAMPLES, whole_frames(vad.hearing_after_ms), whole_frames(vad.min_speech_ms)
    )
    runs: list[tuple[int, int]] = []
    run_start: int | None = None
    position = 0
    for step in program:
        if isinstance(step, Audio):
            for samples, probability in step.generate():
                if probability >= vad.threshold:
                    run_start = position if run_start is None else run_start
                elif run_start is not None:
                    runs.append((run_start, position))
                    run_start = None
                position += samples.size
        machine.do(step)
        assert machine.segmenter.turn_samples <= vad.max_turn_s * 16_000
    if run_start is not None:
        runs.append((run_start, position))
    machine.do(Stop(StopReason.COMMITTED))

    committed = machine.listener.committed()
    for start, end in runs:
        if end - start >= long_enough:
            assert committed[start:end].all()
    for turn in machine.listener.turns:
        assert turn.end - turn.start <= vad.max_turn_s * 16_000


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    vad=vad_settings(),
    speech_frames=st.integers(1, 60),
    speech_level=st.floats(0.01, 1.0),
    later=st.lists(
        st.tuples(st.floats(0.0, 1.0, allow_subnormal=False), st.floats(0.0, 0.6)), max_size=40
    ),
    quiet_frames=st.integers(0, 120),
)
@example(
    # A syllable that scores like noise, and somebody speaks after more than five seconds.
    vad=VadSettings(),
    speech_frames=20,
    speech_level=0.1,
    later=[(0.001, 0.0)] * 5 + [(0.05, 0.0)],
    quiet_frames=170,
)
@example(
    # What comes later is a turn by itself, of one frame without any sound.
    vad=VadSettings(
        prefix_padding_ms=0,
        reach_back_s=1.0,
        hearing_after_ms=0,
        min_speech_ms=0,
        misfire_silence_ms=0,
        early_pause_ms=0,
        silence_duration_ms=0,
    ),
    speech_frames=1,
    speech_level=1.0,
    later=[(0.0, 0.5), (0.0, 0.0), (1.0, 0.0)],
    quiet_frames=0,
)
def test_nothing_said_soon_after_a_turn_is_lost_if_the_speaker_goes_on(
    vad: VadSettings,
    speech_frames: int,
    speech_level: float,
    later: Sequence[tuple[float, float]],
    quiet_frames: int,
) -> None:
    limits = SegmentLimits.of(vad)
    frames_needed = max(limits.hearing_after, limits.min_speech) // FRAME_SAMPLES + 1
    silence_frames = whole_frames(vad.silence_duration_ms) // FRAME_SAMPLES + 1
    assume(max(frames_needed, silence_frames) <= 60)
    machine = Machine(vad, manual=False)

    def frame(level: float, probability: float) -> None:
        samples = np.full(FRAME_SAMPLES, level, np.float32)
        machine.listener.push(samples, machine.segmenter.push(samples, probability))

    def speak() -> None:
        for _ in range(max(speech_frames, frames_needed)):
            frame(speech_level, 1.0)

    speak()
    for _ in range(silence_frames):
        frame(0.0, 0.0)
    [turn] = machine.listener.turns
    may_be_a_turn = min(limits.recent_go_on_probability, limits.resume_probability)
    loudest = speech_level
    louder: list[int] = []
    for level, probability in [*later, *[(0.0, 0.0)] * quiet_frames]:
        position = machine.segmenter.position_sample
        # A hair over 10 dB below the speech, and within half a second of the turn's end.
        if level >= loudest * 0.3163 and position - turn.end < 8_000:
            louder.append(position)
        frame(level, probability)
        if probability >= may_be_a_turn:  # whose speech counts from then on
            loudest = max(loudest, level)
    opens_at = machine.segmenter.position_sample + limits.hearing_after
    speak()
    machine.do(Stop(StopReason.COMMITTED))
    committed = machine.listener.committed()
    for position in louder:
        if opens_at - position <= limits.reach_back:
            assert committed[position : position + FRAME_SAMPLES].all()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    vad=vad_settings(),
    stretches=st.lists(audio, min_size=1, max_size=6),
    tiny=st.lists(st.integers(1, 40), max_size=60),
)
def test_manual_turns_are_all_of_the_input(
    vad: VadSettings, stretches: Sequence[Audio], tiny: Sequence[int]
) -> None:
    machine = Machine(vad, manual=True)
    for stretch in stretches:
        machine.do(stretch)
    for size in tiny:
        samples = np.full(size, 0.1, np.float32)
        machine.listener.push(samples, machine.segmenter.push(samples, float("nan")))
    machine.do(Stop(StopReason.COMMITTED))
    assert len(machine.listener.turns) == 1
    assert machine.listener.committed().all()
