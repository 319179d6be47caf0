"""Spoken digits from espeak-ng: short runs of digit words in many synthetic voices.

espeak-ng comes as a shared library with its data in the wheel `espeakng-loader`. A *voice* is
an accent of English with a *variant* (another vocal tract: f1, klatt, Andy, …); every run is
said with a pitch, a pitch range and a speed of its own.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE_HZ = 16_000
ACCENTS = (
    "en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-029", "en-us-nyc",
)  # fmt: skip

# Effects rather than voices: not intelligible, or without any formants of their own.
NO_VOICES = frozenset({"Demonic", "robosoft5", "robosoft6", "robosoft7", "robosoft8", "fast"})
# Never heard in training, nor any relative of the same name: men, women, an old man, both
# of espeak-ng's synthesisers.
TEST_VARIANTS = (
    "f4", "m5", "Alicia", "Andy", "AnxiousAndy", "belinda", "edward", "edward2", "grandpa",
    "john", "klatt4", "linda", "michel", "pablo", "quincy", "steph", "steph2", "steph3",
    "travis", "zac",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """Some digits said in one breath.

    Attributes:
        samples: int16[T], mono, 16 kHz, without silence at either end.
        digits: What is said.
        ends: For each digit the sample at which its word ends.
        voice: espeak-ng's name of the voice, such as `en-gb+f3`.
    """

    samples: NDArray[np.int16]
    digits: tuple[int, ...]
    ends: tuple[int, ...]
    voice: str


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", ctypes.c_int64),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_SYNCHRONOUS, _CHARACTERS, _UTF8, _WORD_EVENT = 2, 1, 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4


class Speaker:
    """espeak-ng in this process; one only, the library keeps its state in globals."""

    def __init__(self) -> None:
        import espeakng_loader  # noqa: PLC0415  # needed for training only

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self._rate_hz = self._library.espeak_Initialize(_SYNCHRONOUS, 500, data, 0)
        if self._rate_hz <= 0:
            raise RuntimeError("espeak-ng cannot be started")
        self._pieces: list[NDArray[np.int16]] = []
        self._starts_ms: list[int] = []
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count, events) -> int:  # type: ignore[no-untyped-def]
        if count and samples:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type:
            if events[index].type == _WORD_EVENT:
                self._starts_ms.append(events[index].audio_position_ms)
            index += 1
        return 0

    def say(self, text: str, voice: str, *, rate_wpm: int, pitch: int, spread: int) -> None:
        """Speak; the sound and the starts of the words are left in the speaker."""
        self._pieces, self._starts_ms = [], []
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        for parameter, value in ((_RATE, rate_wpm), (_PITCH, pitch), (_RANGE, spread)):
            self._library.espeak_SetParameter(parameter, value, 0)
        data = text.encode() + b"\0"
        self._library.espeak_Synth(data, len(data), 0, _CHARACTERS, 0, _UTF8, None, None)

    def run(self, digits: tuple[int, ...], voice: str, random: np.random.Generator) -> Run | None:
        """Say digits at a random pitch and speed; None where the voice cannot say them all."""
        words = [WORDS[digit] for digit in digits]
        commas = random.random(len(words)) < random.choice([0.0, 0.3, 1.0])
        text = "".join(
            word + (", " if comma else " ") for word, comma in zip(words, commas, strict=True)
        )
        self.say(
            text.strip(", ") + str(random.choice(["", ".", ",", "?"])),
            voice,
            rate_wpm=int(random.integers(100, 220)),
            pitch=int(random.integers(20, 85)),
            spread=int(random.integers(10, 90)),
        )
        if not self._pieces or len(self._starts_ms) != len(digits):
            return None
        return _trimmed(np.concatenate(self._pieces), self._starts_ms, self._rate_hz, digits, voice)

    def sound(
        self, text: str, voice: str, *, rate_wpm: int, pitch: int, spread: int
    ) -> NDArray[np.int16]:
        """int16[T], 16 kHz: what the voice says, without silence at either end."""
        self.say(text, voice, rate_wpm=rate_wpm, pitch=pitch, spread=spread)
        run = _trimmed(np.concatenate(self._pieces), [0], self._rate_hz, (), voice)
        if run is None:
            raise ValueError(f"{voice} is silent")
        return run.samples


@cache
def the_speaker() -> Speaker:
    """This process's only one: the library must not be started twice."""
    return Speaker()


def _trimmed(
    raw: NDArray[np.int16],
    starts_ms: list[int],
    rate_hz: int,
    digits: tuple[int, ...],
    voice: str,
) -> Run | None:
    sound = soxr.resample(raw.astype(np.float32) / 32768, rate_hz, RATE_HZ)
    peak = float(np.abs(sound).max(initial=0.0))
    if peak < 0.01:
        return None
    loud = np.flatnonzero(np.abs(sound) > 0.01 * peak)
    first, last = int(loud[0]), int(loud[-1]) + 1
    bounds = [ms * RATE_HZ // 1000 - first for ms in starts_ms[1:]]
    ends = [_end_before(sound[first:last], bound, 0.01 * peak) for bound in bounds]
    samples = np.round(sound[first:last] * (0.5 / peak) * 32767).astype(np.int16)
    return Run(samples, digits, (*ends, last - first), voice)


def _end_before(sound: NDArray[np.float32], bound: int, threshold: float) -> int:
    # The next word's start may come after a pause: the word ended where the sound did.
    loud = np.flatnonzero(np.abs(sound[: max(bound, 1)]) > threshold)
    return int(loud[-1]) + 1 if len(loud) else max(bound, 1)


def all_variants() -> list[str]:
    """Names of espeak-ng's usable variants, in a fixed order."""
    import espeakng_loader  # noqa: PLC0415  # needed for training only

    folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    return sorted(p.name for p in folder.iterdir() if " " not in p.name and p.name not in NO_VOICES)


def voices(*, test: bool) -> list[str]:
    """Names of voices: those kept for testing, or all the others."""
    return [
        f"{accent}+{variant}"
        for variant in all_variants()
        if (variant in TEST_VARIANTS) is test
        for accent in ACCENTS
    ]


def _say_some(task: tuple[list[str], int, int]) -> list[Run]:
    names, count, seed = task
    random, speaker, found = np.random.default_rng(seed), the_speaker(), []
    for _ in range(count):
        # More than half are single digits: what the ear must tell apart before all else.
        length = 1 if random.random() < 0.6 else int(random.integers(2, 6))
        digits = tuple(int(digit) for digit in random.integers(0, 10, length))
        run = speaker.run(digits, str(random.choice(names)), random)
        if run is not None:
            found.append(run)
    return found


def make_runs(count: int, *, test: bool, seed: int, processes: int) -> list[Run]:
    """About `count` runs in random voices; the same for the same arguments."""
    names, parts = voices(test=test), 64
    tasks = [(names, -(-count // parts), seed * 1000 + index) for index in range(parts)]
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        return [run for runs in pool.map(_say_some, tasks) for run in runs]


class Bank:
    """What is known of the runs, without their sound."""

    def __init__(self, runs: list[Run]) -> None:
        self.lengths = [len(run.samples) for run in runs]
        self.offsets = np.cumsum([0, *self.lengths[:-1]]).tolist()
        self.digits = [run.digits for run in runs]
        self.ends = [run.ends for run in runs]
        self._by_voice: dict[str, list[int]] = {}
        for index, run in enumerate(runs):
            self._by_voice.setdefault(run.voice, []).append(index)
        self._voices = list(self._by_voice)

    def pick(self, random: np.random.Generator, voice: str | None) -> int:
        """A run, of one voice or of any."""
        if voice is None:
            return int(random.integers(len(self.digits)))
        runs = self._by_voice[voice]
        return runs[int(random.integers(len(runs)))]

    def voice(self, random: np.random.Generator) -> str | None:
        """One voice for a clip; now and then none, for a mixture."""
        return (
            None if random.random() < 0.3 else self._voices[int(random.integers(len(self._voices)))]
        )
