"""The script that measures captions, with a recogniser that knows what it hears."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("faster_whisper")

from agent.config import ScorerName
from agent.engine.small.recogniser import Heard, Recogniser
from agent.vad.scorers import make_scorer
from scripts.bench_captions import Clip, Played, Reader, play_offline, summarise
from scripts.captions_offline import OfflineSession

RATE_HZ = 16_000
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"


class CountingRecogniser:
    """Hears a number in every half second, at once."""

    def hear(self, samples: Any, language: str | None, *, draft: bool = False) -> Heard:
        del language, draft
        return Heard(" ".join(str(100 + half) for half in range(samples.size // (RATE_HZ // 2))))


def buzz(duration_s: float) -> Any:
    """Overtones that WebRTC's detector takes for a voice."""
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    wave = sum(np.sin(2 * np.pi * 150 * n * time_s) / n for n in range(1, 20))
    return (0.2 * wave).astype(np.float32)


def test_simulated_captions_come_while_somebody_speaks_and_end_as_the_transcript():
    session = OfflineSession(
        cast("Recogniser", CountingRecogniser()), make_scorer(ScorerName.WEBRTC)
    )
    ends = [(str(100 + half), (half + 1) / 2) for half in range(8)]
    said = " ".join(word for word, _ in ends)
    played = play_offline(session, Clip(buzz(4.0), said, "en", ends))
    assert (played.turns, played.differing) == (1, 0)
    assert played.transcripts == [played.shown.strip()]
    figures = cast("dict[str, Any]", summarise([played]))
    assert figures["timed"] == len(ends)
    assert figures["live_percent"] > 50
    # Two passes of 0.8 s; the words themselves cost next to nothing here.
    assert 0.8 <= figures["delay_p50_s"] <= 2.5


def test_words_are_timed_by_the_delta_that_brought_them():
    clip = Clip(np.zeros(1), "one two three", "en", [("one", 1.0), ("two", 2.0), ("three", 3.0)])
    played = Played(clip)
    reader = Reader(played)
    reader.receive({"type": DELTA, "item_id": "a", "delta": "One"}, 2.5)
    reader.receive({"type": "input_audio_buffer.speech_stopped", "item_id": "a"}, 4.0)
    reader.receive({"type": DELTA, "item_id": "a", "delta": " too three."}, 4.5)
    reader.receive({"type": COMPLETED, "item_id": "a", "transcript": "One two three."}, 4.5)
    reader.measure(lambda end_s: end_s)
    assert played.delays_s == [1.5, 1.5]
    assert (played.live, played.turns, played.differing) == (1, 1, 1)
