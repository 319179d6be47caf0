"""The settings that are compared, and how sound without speech is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.audio.pcm import SAMPLE_RATE_HZ, AudioFormat, Encoding, Samples
from scripts.turns_bench.sounds import NOISES, at_level, music

# The rate of the recordings: positions need no conversion.
INPUT_FORMAT = AudioFormat(Encoding.PCM16, SAMPLE_RATE_HZ)
BLOCK_S = 30.0
LEVELS_DBFS = (-40.0, -25.0)

# The protocol's longest waits, and what a turn needs beside.
_LONGEST_WAIT_S = {"low": 8.0, "medium": 4.0, "auto": 4.0, "high": 2.0}
_BESIDE_S = 0.8


def turn_detections(eagerness: str, silence_ms: int) -> dict[str, dict[str, Any]]:
    """The protocol's `turn_detection` of each setting, by its name in the report."""
    return {
        "server_vad": {"type": "server_vad", "silence_duration_ms": silence_ms},
        "semantic_vad": {"type": "semantic_vad", "eagerness": eagerness},
    }


def gap_s(eagerness: str, silence_ms: int) -> float:
    """Silence in which a turn ends for sure under every setting."""
    return max(_LONGEST_WAIT_S[eagerness], silence_ms / 1000) + _BESIDE_S


@dataclass(frozen=True)
class SpeechlessSound:
    """Sound without speech.

    Attributes:
        kind: A noise, or music.
        level_dbfs: How loud.
        seed: Same seed, same sound.
    """

    kind: str
    level_dbfs: float
    seed: int

    @property
    def name(self) -> str:
        """For the report."""
        return f"{self.kind} {self.level_dbfs:g} dBFS"

    def blocks(self, duration_s: float) -> Iterator[Samples]:
        """Blocks of 30 s, another piece of music each; the last one is shorter."""
        make = music if self.kind == "music" else NOISES[self.kind]
        left = int(duration_s * SAMPLE_RATE_HZ)
        number = 0
        while left > 0:
            length = min(left, int(BLOCK_S * SAMPLE_RATE_HZ))
            rng = np.random.default_rng((self.seed, number))
            yield at_level(make(length, rng), self.level_dbfs)
            left -= length
            number += 1


def speechless_sounds(seed: int = 1) -> list[SpeechlessSound]:
    """Every noise at both levels, and as much music as noise."""
    sounds = []
    for level_dbfs in LEVELS_DBFS:
        for number, kind in enumerate(NOISES):
            sounds.append(SpeechlessSound(kind, level_dbfs, seed + number))
            sounds.append(SpeechlessSound("music", level_dbfs, seed + 100 + number))
    return sounds
