"""Recordings as the benchmark knows them: where speech is, where it truly ends, where to pause.

The truth about a recording comes from Silero alone on the clean clip, with nothing mixed in
and silence around it. A frame above `TRUE_SPEECH` is speech; the end of the last one is the
*true end of speech*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.pcm import SAMPLE_RATE_HZ, Samples
from agent.vad.scorers import Probabilities, SileroScorer, silero_model_path
from tests.helpers.speech import Recording, recordings

Span = tuple[int, int]
"""First sample, and one past the last."""

TRUE_SPEECH = 0.5
# Whole frames of silence put around a clip while it is scored, so that what is said in its
# first and last frames is judged as it will be in the dialogue.
_AROUND_FRAMES = 16
# Loudness is compared over this much, half of it before and half after.
_QUIET_WINDOW_SAMPLES = SAMPLE_RATE_HZ * 40 // 1000
# So much speech lies before the first pause and after the last one, and so much sound between
# two: nobody stops for two seconds and then says a last half syllable.
_MARGIN_SAMPLES = SAMPLE_RATE_HZ * 600 // 1000
# All speakers are as loud as this while they speak, so that a noise is as far below each.
SPEECH_DBFS = -26.0


@dataclass(frozen=True, eq=False)
class Clip:
    """One recording.

    Attributes:
        name: Of its file.
        samples: float32[T], mono, 16 kHz; what is speech is at `SPEECH_DBFS`.
        speech: Where Silero hears speech, in order; at least one span.
        floor: Root mean square of its quietest frames: the noise of its room.
    """

    name: str
    samples: Samples
    speech: tuple[Span, ...]
    floor: float

    @property
    def onset(self) -> int:
        """First sample of speech."""
        return self.speech[0][0]

    @property
    def true_end(self) -> int:
        """One past the last sample of speech."""
        return self.speech[-1][1]


def load_clips(language: str | None = None) -> list[Clip]:
    """The recordings of the tests in a language, or all of them, with their truth."""
    scorer = SileroScorer(silero_model_path())
    return [make_clip(recording, scorer) for recording in recordings(language)]


def make_clip(recording: Recording, scorer: SileroScorer) -> Clip:
    """A recording with its truth."""
    samples = recording.samples()
    speech = speech_spans(score_clean(samples, scorer), samples.size)
    gain = 10 ** (SPEECH_DBFS / 20) / np.sqrt(power_of_speech(samples, speech))
    samples = samples * np.float32(gain)
    return Clip(recording.path.stem, samples, speech, room_floor(samples))


def power_of_speech(samples: Samples, speech: Sequence[Span]) -> float:
    """Mean square of what is speech."""
    spoken = np.concatenate([samples[start:end] for start, end in speech])
    return float(np.mean(np.square(spoken, dtype=np.float64)))


def score_clean(samples: Samples, scorer: SileroScorer) -> Probabilities:
    """Silero on a clip with silence around it: float32[ceil(T / 512) + 2 * 16]."""
    around = _AROUND_FRAMES * FRAME_SAMPLES
    padded = np.pad(samples, (around, around + -samples.size % FRAME_SAMPLES))
    state = scorer.new_state()
    frames = padded.reshape(-1, FRAME_SAMPLES)
    return np.array([scorer.score([state], frame[None])[0] for frame in frames], np.float32)


def speech_spans(probabilities: Probabilities, count: int) -> tuple[Span, ...]:
    """Where a clip of `count` samples is speech, from what `score_clean` gave.

    Raises:
        ValueError: Nowhere.
    """
    loud = np.flatnonzero(probabilities > TRUE_SPEECH)
    if not loud.size:
        raise ValueError("there is no speech in the clip")
    runs = np.split(loud, np.flatnonzero(np.diff(loud) > 1) + 1)
    spans = [
        (
            max(0, (int(run[0]) - _AROUND_FRAMES) * FRAME_SAMPLES),
            min(count, (int(run[-1]) + 1 - _AROUND_FRAMES) * FRAME_SAMPLES),
        )
        for run in runs
    ]
    return tuple(span for span in spans if span[0] < span[1])


def room_floor(samples: Samples) -> float:
    """Root mean square of the quietest tenth of 32 ms frames, at most -50 dBFS."""
    frames = samples[: samples.size // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    levels = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1))
    return float(min(np.quantile(levels, 0.1), 10 ** (-50 / 20)))


def pause_places(clip: Clip, count: int) -> list[int]:
    """Up to `count` places for pauses inside a sentence, with enough said on either side."""
    first = speech_reached(clip.speech, _MARGIN_SAMPLES)
    mirrored = [(-end, -start) for start, end in reversed(clip.speech)]
    last = -speech_reached(mirrored, _MARGIN_SAMPLES)
    return quiet_points(clip.samples, first, last, count)


def speech_reached(speech: Sequence[Span], wanted: int) -> int:
    """The position before which so many samples are speech; the end where there are fewer."""
    for start, end in speech:
        if end - start >= wanted:
            return start + wanted
        wanted -= end - start
    return speech[-1][1]


def quiet_points(samples: Samples, first: int, last: int, count: int) -> list[int]:
    """Where a pause inside a sentence is least out of place: at minima of energy.

    What lies from `first` to `last` is parted into `count` equal shares; each gives the
    middle of its quietest 40 ms. Of equally quiet ones the first counts. A clip that is too
    short for so many gives fewer.

    Returns:
        Positions in samples, ascending, none nearer than 600 ms to another.
    """
    loudness = _smoothed_power(samples)
    points: list[int] = []
    for share in range(count):
        start = first + (last - first) * share // count
        end = first + (last - first) * (share + 1) // count
        if points:
            start = max(start, points[-1] + _MARGIN_SAMPLES)
        if start < end:
            points.append(start + int(np.argmin(loudness[start:end])))
    return points


def _smoothed_power(samples: Samples) -> np.ndarray:
    """Mean square of the 40 ms around each sample: float64[T]."""
    half = _QUIET_WINDOW_SAMPLES // 2
    squares = np.square(np.pad(samples, (half, half)), dtype=np.float64)
    sums = np.concatenate(([0.0], np.cumsum(squares)))
    window = sums[2 * half :] - sums[: -2 * half]
    return window[: samples.size] / (2 * half)


def first_speech_at_or_after(spans: Sequence[Span], position: int) -> int:
    """The first sample of speech from `position` on.

    Raises:
        ValueError: There is none.
    """
    for start, end in spans:
        if end > position:
            return max(start, position)
    raise ValueError(f"no speech after sample {position}")


def last_speech_before(spans: Iterable[Span], position: int) -> int:
    """One past the last sample of speech before `position`, which is at most `position`.

    Raises:
        ValueError: There is none.
    """
    ends = [min(end, position) for start, end in spans if start < position]
    if not ends:
        raise ValueError(f"no speech before sample {position}")
    return max(ends)
