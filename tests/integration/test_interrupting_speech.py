"""Real speech over an answer: when its text is withheld, by the sound alone."""

from __future__ import annotations

import numpy as np
import pytest

from agent.audio.framing import FRAME_SAMPLES
from agent.config import load_settings
from scripts.turns_bench.clips import load_clips
from scripts.turns_bench.interruptions import interrupting_sounds
from scripts.turns_bench.offline import score_all
from tests.helpers.session import SessionDriver

pytestmark = pytest.mark.models

LEAD_SAMPLES = 16_384  # of silence before, whole frames
SHIFT_SAMPLES = 96


async def test_text_is_withheld_before_200_ms_of_speech_wherever_frames_begin() -> None:
    """Soft beginnings score little where nothing came before, and by where the frames fall."""
    clips = load_clips()
    sounds = interrupting_sounds(clips, interruptions=len(clips), backchannels=0)
    shifted = [
        (sound, LEAD_SAMPLES + shift)
        for sound in sounds
        for shift in range(0, FRAME_SAMPLES, SHIFT_SAMPLES)
    ]
    heard = [np.concatenate([np.zeros(lead, np.float32), sound.samples]) for sound, lead in shifted]
    late_ms = {}
    scores = await score_all(heard, load_settings().vad)
    for (sound, lead), samples, probabilities in zip(shifted, heard, scores, strict=True):
        assert sound.interrupts_at is not None
        until = withheld_at(samples, probabilities)
        late_ms[sound.said, lead] = (until - lead - sound.interrupts_at) / 16
    assert max(late_ms.values()) <= 0, max(late_ms.items(), key=lambda item: item[1])


def withheld_at(samples: np.ndarray, probabilities: np.ndarray) -> int:
    """The first sample after which an answer in progress gets no further."""
    driver = SessionDriver()
    driver.say({"type": "response.create"})
    for number, probability in enumerate(probabilities):
        start = number * FRAME_SAMPLES
        driver.now += FRAME_SAMPLES / 16_000
        frame = samples[start : start + FRAME_SAMPLES]
        driver.session.receive_audio(frame, np.array([probability], np.float32), driver.now)
        driver._drain()
        answer = driver.session._responses.active
        if answer is not None and answer.withheld is not None:
            return start + FRAME_SAMPLES
    raise AssertionError("it was not withheld")
