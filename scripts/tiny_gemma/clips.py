"""Write the spoken digits that tests use: voices which the checkpoint was not trained with.

python -m scripts.tiny_gemma.clips tests/data/spoken-digits
"""

from __future__ import annotations

import json
import sys
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.tiny_gemma.voices import RATE_HZ, WORDS, the_speaker

# Voice, words per minute, pitch, and groups of digits with pauses (seconds) between them.
CLIPS = {
    "three-one-four": ("en-us+f4", 140, 55, ["314"], 0.0),
    "two-seven": ("en+belinda", 150, 45, ["27"], 0.0),
    "nine": ("en-gb-x-rp+john", 130, 50, ["9"], 0.0),
    "five-eight-zero-six": ("en-us+edward", 160, 40, ["58", "06"], 0.6),
    "one-to-nine-and-zero": ("en-gb-scotland+linda", 150, 60, ["123", "456", "789", "0"], 0.4),
    "four-four-two-pauses": ("en-us+quincy", 130, 50, ["4", "4", "2"], 2.0),
}
EDGE_S = 0.25


def speak(
    voice: str, rate_wpm: int, pitch: int, groups: list[str], pause_s: float
) -> NDArray[np.int16]:
    """int16[T], 16 kHz: groups of digits with pauses between them, silence around them."""
    speaker, pieces = the_speaker(), [np.zeros(int(EDGE_S * RATE_HZ), np.int16)]
    for index, group in enumerate(groups):
        if index:
            pieces.append(np.zeros(int(pause_s * RATE_HZ), np.int16))
        text = ", ".join(WORDS[int(digit)] for digit in group)
        pieces.append(speaker.sound(text, voice, rate_wpm=rate_wpm, pitch=pitch, spread=50))
    return np.concatenate([*pieces, np.zeros(int(EDGE_S * RATE_HZ), np.int16)])


def main(folder: Path) -> None:
    """Write the clips and what is said in them."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {}
    for name, (voice, rate_wpm, pitch, groups, pause_s) in CLIPS.items():
        samples = speak(voice, rate_wpm, pitch, groups, pause_s)
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes(samples.astype("<i2").tobytes())
        said[f"{name}.wav"] = {"digits": " ".join("".join(groups)), "voice": voice}
    (folder / "manifest.json").write_text(json.dumps(said, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
