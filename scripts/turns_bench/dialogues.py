"""Dialogues made of recordings, and the truth about them.

One dialogue is what one microphone hears: sentences with pauses inside and between, each
turn followed by a silence in which it must end, over noise or in a quiet room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.pcm import SAMPLE_RATE_HZ, Samples
from scripts.turns_bench.clips import (
    Clip,
    Span,
    first_speech_at_or_after,
    last_speech_before,
    pause_places,
    power_of_speech,
)
from scripts.turns_bench.sounds import NOISES, at_level, pink

# Of the shortest and the longest pause.
PAUSE_S = (0.1, 2.0)
LEAD_S = 1.0
_FADE_SAMPLES = SAMPLE_RATE_HZ * 5 // 1000
# One pause a so long stretch of a sentence, but at most so many.
_STRETCH_SAMPLES = SAMPLE_RATE_HZ * 3 // 2
_MAX_PAUSES = 4


@dataclass(frozen=True)
class Pause:
    """One that was put in.

    Attributes:
        at: Where it begins, in samples.
        length: In samples.
        silent_from: Where speech ended before it: at `at`, or earlier where the speaker
            was silent there.
        resumes_at: Where speech goes on.
        inside: Whether it is inside a sentence; else between two.
        said: The recording before it.
    """

    at: int
    length: int
    silent_from: int
    resumes_at: int
    inside: bool
    said: str = ""


@dataclass(frozen=True)
class TrueTurn:
    """What a person says in one go.

    Attributes:
        start: First sample of speech.
        end: The true end of speech: one past its last sample.
        pauses: In order.
        said: The recording at its end.
    """

    start: int
    end: int
    pauses: tuple[Pause, ...]
    said: str = ""


@dataclass(frozen=True, eq=False)
class Dialogue:
    """What one microphone hears, and the truth about it.

    Attributes:
        name: Says how it was made.
        samples: float32[T], mono, 16 kHz.
        speech: Where there is speech.
        turns: What is said, in order.
        snr_db: How far the noise is below the speech; None without noise.
    """

    name: str
    samples: Samples
    speech: tuple[Span, ...]
    turns: tuple[TrueTurn, ...]
    snr_db: float | None = None

    @property
    def duration_s(self) -> float:
        """How long it lasts."""
        return self.samples.size / SAMPLE_RATE_HZ


@dataclass
class _Tape:
    """Samples joined so far, and where speech is in them."""

    room: np.random.Generator
    pieces: list[Samples] = field(default_factory=list)
    speech: list[Span] = field(default_factory=list)
    size: int = 0

    def silence(self, length: int, floor: float) -> None:
        """A room without a speaker: pink noise at the level of the recording's own room."""
        self.pieces.append((pink(length, self.room) * np.float32(floor)).astype(np.float32))
        self.size += length

    def part(self, clip: Clip, start: int, end: int) -> None:
        """Part of a clip, with short slopes where it was cut."""
        samples = clip.samples[start:end].copy()
        slope = np.linspace(0.0, 1.0, min(_FADE_SAMPLES, samples.size), dtype=np.float32)
        if start > 0:
            samples[: slope.size] *= slope
        if end < clip.samples.size:
            samples[-slope.size :] *= slope[::-1]
        offset = self.size - start
        for low, high in clip.speech:
            kept = min(high, end) - max(low, start)
            # The cut may leave less of some speech than the frame that was judged: no truth.
            if kept >= min(FRAME_SAMPLES, high - low):
                self.speech.append((max(low, start) + offset, min(high, end) + offset))
        self.pieces.append(samples)
        self.size += samples.size


def insert_pauses(tape: _Tape, clip: Clip, lengths: Sequence[int]) -> list[Pause]:
    """Say a clip with pauses at its minima of energy.

    Args:
        tape: What it is added to.
        clip: What is said.
        lengths: Of the pauses, in samples; those for which there is no place are left out.
    """
    points = pause_places(clip, len(lengths))
    pauses = []
    base, start = tape.size, 0
    for point, length in zip(points, lengths, strict=False):
        tape.part(clip, start, point)
        shift = base + sum(pause.length for pause in pauses)
        pauses.append(
            Pause(
                at=tape.size,
                length=length,
                silent_from=last_speech_before(clip.speech, point) + shift,
                resumes_at=first_speech_at_or_after(clip.speech, point) + shift + length,
                inside=True,
                said=clip.name,
            )
        )
        tape.silence(length, clip.floor)
        start = point
    tape.part(clip, start, clip.samples.size)
    return pauses


def build_dialogue(
    name: str, turns: Sequence[Sequence[Clip]], *, gap_s: float, seed: Sequence[int]
) -> Dialogue:
    """Join sentences to turns and turns to a dialogue, in a quiet room.

    Args:
        name: For logs.
        turns: The sentences of each turn.
        gap_s: Silence after each turn; longer than any wait for its end.
        seed: Same seed, same dialogue.
    """
    rng = np.random.default_rng(seed)
    # Another generator than that of the pauses, which must not depend on how long a gap is.
    tape = _Tape(np.random.default_rng((*seed, 1)))
    tape.silence(int(LEAD_S * SAMPLE_RATE_HZ), turns[0][0].floor)
    spoken = []
    for sentences in turns:
        begins_at = tape.size
        pauses: list[Pause] = []
        for number, clip in enumerate(sentences):
            if number:
                length = _pause_lengths(rng, 1)[0]
                silent_from = tape.speech[-1][1]
                pause_at = tape.size
                tape.silence(length, clip.floor)
                resumes_at = tape.size + clip.onset
                before = sentences[number - 1].name
                pauses.append(Pause(pause_at, length, silent_from, resumes_at, False, before))
            count = min(_MAX_PAUSES, max(1, (clip.true_end - clip.onset) // _STRETCH_SAMPLES))
            pauses += insert_pauses(tape, clip, _pause_lengths(rng, count))
        said = [span for span in tape.speech if span[0] >= begins_at]
        spoken.append(TrueTurn(said[0][0], said[-1][1], tuple(pauses), sentences[-1].name))
        tape.silence(int(gap_s * SAMPLE_RATE_HZ), sentences[-1].floor)
    return Dialogue(name, np.concatenate(tape.pieces), tuple(tape.speech), tuple(spoken))


def _pause_lengths(rng: np.random.Generator, count: int) -> list[int]:
    """Equally likely lengths between 0.1 and 2 s, one from each of `count` equal shares."""
    low, high = PAUSE_S
    shares = (rng.permutation(count) + rng.random(count)) / count
    return [int((low + (high - low) * share) * SAMPLE_RATE_HZ) for share in shares]


def with_noise(dialogue: Dialogue, noise: str, snr_db: float, seed: Sequence[int]) -> Dialogue:
    """The dialogue over a noise `snr_db` below the mean power of its speech."""
    rng = np.random.default_rng(seed)
    sound = NOISES[noise](dialogue.samples.size, rng)
    level_dbfs = 10 * np.log10(power_of_speech(dialogue.samples, dialogue.speech)) - snr_db
    return Dialogue(
        f"{dialogue.name}, {noise} {snr_db:g} dB below",
        dialogue.samples + at_level(sound, level_dbfs),
        dialogue.speech,
        dialogue.turns,
        snr_db,
    )


def build_pause_dialogues(
    clips: Sequence[Clip],
    *,
    rounds: int,
    gap_s: float,
    snrs_db: Sequence[float | None] = (None, 20.0, 10.0, 5.0),
    turns_each: int = 4,
    seed: int = 1,
) -> list[Dialogue]:
    """Every clip once a round, in another order; every third turn has two sentences.

    The rounds go through `snrs_db` and through the noises in turn.
    """
    dialogues = []
    noises = tuple(NOISES)
    for number in range(rounds):
        rng = np.random.default_rng((seed, number))
        order = [clips[index] for index in rng.permutation(len(clips))]
        turns: list[list[Clip]] = []
        while order:
            take = 2 if len(turns) % 3 == 2 else 1
            turns.append(order[:take])
            order = order[take:]
        snr_db = snrs_db[number % len(snrs_db)]
        for part, start in enumerate(range(0, len(turns), turns_each)):
            seeds = (seed, number, part)
            quiet = build_dialogue(
                f"pauses {number}.{part}",
                turns[start : start + turns_each],
                gap_s=gap_s,
                seed=seeds,
            )
            if snr_db is not None:
                noise = noises[(number + part) % len(noises)]
                quiet = with_noise(quiet, noise, snr_db, (*seeds, 2))
            dialogues.append(quiet)
    return dialogues
