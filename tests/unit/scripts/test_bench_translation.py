"""The figures of `scripts/bench_translation.py`, on talks made by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from scripts.bench_translation import (
    Heard,
    Missed,
    Placed,
    missed_percent,
    missed_speech,
    quantiles,
    take,
    transcribed_shares,
    wrong_digits,
)
from scripts.turns_bench.clips import Clip

SECOND = 16_000


def placed(text: str, start_s: float, language: str = "en") -> Placed:
    """A recording of two seconds of which the second one is speech."""
    clip = Clip(text, np.zeros(2 * SECOND, np.float32), ((SECOND, 2 * SECOND),), 0.0)
    return Placed(clip, int(start_s * SECOND), text, language)


def test_speech_outside_of_segments_is_missed() -> None:
    talk = [placed("one", 0), placed("two", 10)]

    def missed(spans_ms: list[tuple[int, int]]) -> list[Missed]:
        return missed_speech(talk, spans_ms)

    assert missed([(900, 2100), (11_000, 12_000)]) == []
    assert missed([(900, 2100)]) == [Missed("two", 11.0, SECOND)]
    assert missed([(900, 1499), (11_000, 12_000)]) == [Missed("one", 1.5, SECOND // 2)]
    assert missed_percent(talk, missed([(900, 1499), (11_000, 12_000)])) == 25.0


def test_a_recording_is_looked_for_at_its_place() -> None:
    talk = [placed("the small dog", 0), placed("the pencils", 3), placed("in spring", 6)]
    assert transcribed_shares(talk, "The small dog. The pencils. In spring.") == [1, 1, 1]
    assert transcribed_shares(talk, "The small dog. In spring.") == [1, 0, 1]


@pytest.mark.parametrize(
    ("source", "translation", "wrong"),
    [
        ("3 1 4 9", "tres uno cuatro nueve", []),
        ("3 1 4 9", "tres uno cuatro", [1]),
        ("3 1 9", "tres uno cuatro nueve", [0]),
        ("3 1 4 9 9", "tres dos cuatro nueve", [0, 1]),
        ("", "", [0, 1]),
    ],
)
def test_digits_must_be_exactly_right(source: str, translation: str, wrong: list[int]) -> None:
    talk = [placed("3 1 4", 0), placed("9", 3)]
    assert wrong_digits(talk, Heard(source=source, translation=translation)) == wrong


def test_events_are_noted() -> None:
    heard = Heard()
    for event in (
        {"type": "session.created"},
        {"type": "session.input_transcript.delta", "delta": "one", "elapsed_ms": 200},
        {"type": "session.output_transcript.delta", "delta": "uno", "elapsed_ms": 400},
        {"type": "voice_agent.segment.timings", "end_ms": 1500},
        {"type": "error", "error": {"message": "no"}},
        {"type": "session.closed"},
    ):
        take(heard, event)
    assert (heard.source, heard.translation, heard.elapsed_ms) == ("one", "uno", [200, 400])
    assert (len(heard.segments), heard.translated_s) == (1, 1.5)
    assert (heard.errors, heard.last) == (["no"], "session.closed")


def test_quantiles_are_in_seconds() -> None:
    assert quantiles("done", [1000.0]) == {"done_p50_s": 1.0, "done_p95_s": 1.0}
    assert quantiles("done", []) == {"done_p50_s": None, "done_p95_s": None}
