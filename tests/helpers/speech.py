"""Recordings of real people for tests.

They lie outside the project, in the folder named by `VOICE_AGENT_SPEECH_DIR` (by default
`../shared/speech` beside the checkout). Where that folder is missing the few that Debian's
package pocketsphinx-testdata ships are used.
"""

from __future__ import annotations

import json
import os
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from agent.audio.pcm import encode_pcm16

ROOT = Path(__file__).resolve().parents[2]
PIECE_S = 0.04
PIECE_BYTES = int(24_000 * PIECE_S) * 2
POCKETSPHINX = Path("/usr/share/pocketsphinx/test/data/librivox")


@dataclass(frozen=True, slots=True)
class Recording:
    """A clip of a real person.

    Attributes:
        path: A mono 16-bit WAV file at 16 kHz.
        text: What is said, in plain words.
        language: BCP-47 code.
    """

    path: Path
    text: str
    language: str = "en"

    def samples(self) -> NDArray[np.float32]:
        """float32[T], 16 kHz."""
        with wave.open(str(self.path)) as file:
            assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
            data = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        return (data / 32768).astype(np.float32)


def speech_folder() -> Path:
    """Where the recordings are, whether or not they are there."""
    return Path(os.environ.get("VOICE_AGENT_SPEECH_DIR", ROOT.parent / "shared" / "speech"))


def recordings(language: str | None = "en") -> list[Recording]:
    """All recordings in a language (None: in any); skips the test where there are none."""
    manifest = speech_folder() / "manifest.jsonl"
    if manifest.is_file():
        entries = [json.loads(line) for line in manifest.read_text("utf-8").splitlines() if line]
        found = [
            Recording(speech_folder() / f"{entry['id']}.wav", entry["text"], entry["lang"])
            for entry in entries
        ]
    else:
        found = _from_pocketsphinx()
    usable = [clip for clip in found if language in {None, clip.language} and clip.path.is_file()]
    if not usable:
        pytest.skip(f"no recordings: neither {speech_folder()} nor pocketsphinx-testdata is there")
    return usable


def _from_pocketsphinx() -> list[Recording]:
    """The package's clips; a line of its list is `<s> words </s> (name)`."""
    transcription = POCKETSPHINX / "transcription"
    if not transcription.is_file():
        return []
    found = []
    for line in transcription.read_text("utf-8").splitlines():
        words, _, name = line.rpartition("(")
        text = words.replace("<s>", "").replace("</s>", "").strip()
        found.append(Recording(POCKETSPHINX / f"{name.rstrip(')')}.wav", text))
    return found


def recording(*, at_least_s: float = 0.0, at_most_s: float = 60.0) -> Recording:
    """One English recording of about that length; skips the test where there is none."""
    for clip in recordings():
        if at_least_s <= len(clip.samples()) / 16_000 <= at_most_s:
            return clip
    pytest.skip(f"no recording between {at_least_s} and {at_most_s} s")


def spoken_pieces(samples: np.ndarray, silence_s: float = 1.8) -> list[bytes]:
    """PCM16 at 24 kHz in pieces of 40 ms, with a silence that ends the turn."""
    wire = soxr.resample(samples, 16_000, 24_000)
    audio = encode_pcm16(np.concatenate([wire, np.zeros(int(24_000 * silence_s), np.float32)]))
    return [audio[at : at + PIECE_BYTES] for at in range(0, len(audio), PIECE_BYTES)]


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = 16_000) -> None:
    """float32[T], mono, as 16-bit PCM."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(encode_pcm16(samples))
