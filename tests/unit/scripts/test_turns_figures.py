"""Figures from made-up events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.turns_bench.dialogues import Dialogue, Pause, TrueTurn
from scripts.turns_bench.figures import (
    Interruption,
    Speechless,
    Tally,
    covered,
    detail,
    false_turns,
    interruption_figures,
    merged,
    percent,
    percentile,
    tally_by_noise,
)
from scripts.turns_bench.observed import Observation

S = 16_000


def dialogue(snr_db: float | None = None) -> Dialogue:
    """Two turns: 1 to 5 s, a second of pause at 2 s (inside) and 3.5 s (between); 10 to 12 s."""
    first = TrueTurn(
        1 * S,
        5 * S,
        (
            Pause(2 * S, S, 2 * S, 3 * S, inside=True),
            Pause(int(3.5 * S), S, int(3.5 * S), int(4.5 * S), inside=False),
        ),
    )
    second = TrueTurn(10 * S, 12 * S, ())
    speech = (
        (1 * S, 2 * S),
        (3 * S, int(3.5 * S)),
        (int(4.5 * S), 5 * S),
        (10 * S, 12 * S),
    )
    return Dialogue("made up", np.zeros(16 * S, np.float32), speech, (first, second), snr_db)


def seen(*turns: tuple[float, float], late_s: float = 0.0) -> Observation:
    """Events of turns from … to (in seconds of audio), each told `late_s` after it was due."""
    observation = Observation(sent_at=lambda position: 100 + position / S)
    for number, (start_s, end_s) in enumerate(turns):
        for kind, at_s in (("started", start_s), ("stopped", end_s)):
            field = "audio_start_ms" if kind == "started" else "audio_end_ms"
            event = {
                "type": f"input_audio_buffer.speech_{kind}",
                "item_id": f"item_{number}",
                field: round(at_s * 1000),
            }
            observation.take(event, 100 + at_s + late_s)
        timings = {
            "type": "voice_agent.turn.timings",
            "item_id": f"item_{number}",
            "turn_end_delay_ms": 500.0,
        }
        observation.take(timings, 100 + end_s + late_s)
    return observation


def test_perfect_turns() -> None:
    tally = Tally()
    tally.add(dialogue(), seen((0.7, 5.5), (9.7, 12.5), late_s=0.02))
    figures = tally.figures()
    assert figures == {
        "cut_short_percent": 0.0,
        "turn_end_delay_p50_ms": 520.0,
        "turn_end_delay_p95_ms": 520.0,
        "speech_heard_percent": 100.0,
        "pauses_inside": 1,
        "pauses_between": 1,
        "between_ended_percent": 0.0,
        "ended_elsewhere": 0,
        "turns": 2,
        "ends_missed": 0,
        "server_delay_p50_ms": 500.0,
        "server_delay_p95_ms": 500.0,
        "turns_without_speech": 0,
    }


def test_a_pause_inside_a_sentence_ends_the_turn() -> None:
    tally = Tally()
    tally.add(dialogue(), seen((0.7, 2.5), (2.7, 5.5), (9.7, 12.5)))
    assert tally.figures()["cut_short_percent"] == 100.0
    assert tally.figures()["between_ended_percent"] == 0.0
    assert tally.figures()["ended_elsewhere"] == 0


def test_a_turn_that_ends_as_the_speaker_goes_on_was_ended_by_the_pause() -> None:
    tally = Tally()
    tally.add(dialogue(), seen((0.7, 3.1), (3.1, 5.5), (9.7, 12.5)))
    assert tally.inside_ended == 1
    tally = Tally()
    tally.add(dialogue(), seen((0.7, 3.11), (3.11, 5.5), (9.7, 12.5)))
    assert (tally.inside_ended, tally.elsewhere_ended) == (0, 1)


def test_a_pause_between_sentences_is_counted_apart() -> None:
    tally = Tally()
    tally.add(dialogue(), seen((0.7, 4.0), (4.2, 5.5), (9.7, 12.5)))
    assert (tally.inside_ended, tally.between_ended) == (0, 1)


def test_an_end_that_does_not_come_before_the_next_speech() -> None:
    tally = Tally()
    tally.add(dialogue(), seen((0.7, 12.5)))
    assert tally.ends_missed == 1
    assert tally.figures()["turns"] == 2
    assert len(tally.delays_ms) == 1


def test_speech_outside_of_turns_and_turns_outside_of_speech() -> None:
    tally = Tally()
    tally.add(dialogue(), seen((1.5, 5.5), (6.0, 7.0), (9.7, 12.5)))
    assert tally.figures()["speech_heard_percent"] == pytest.approx(100 * 3.5 / 4)
    assert tally.turns_without_speech == 1


def test_without_real_time_delays_are_in_audio() -> None:
    observation = seen((0.7, 5.8), (9.7, 12.5), late_s=7)
    observation.sent_at = None
    tally = Tally()
    tally.add(dialogue(), observation)
    assert tally.delays_ms == [pytest.approx(800), pytest.approx(500)]


def test_details_name_every_pause_and_turn() -> None:
    found = detail(dialogue(), seen((0.7, 2.5), (2.7, 5.5), (9.7, 12.5)))
    assert [pause["ended_turn"] for pause in found["pauses"]] == [True, False]
    assert found["turns"][0] == {"start_s": 0.7, "end_s": 2.5}
    assert [end["at_s"] for end in found["true_ends"]] == [5.0, 12.0]


def test_figures_by_noise() -> None:
    good, bad = seen((0.7, 5.5), (9.7, 12.5)), seen((0.7, 2.5), (2.7, 5.5), (9.7, 12.5))
    figures = tally_by_noise([(dialogue(), good), (dialogue(5.0), bad)])
    assert figures["cut_short_percent"] == 50.0
    assert figures["by_noise"]["none"]["cut_short_percent"] == 0.0
    assert figures["by_noise"]["5 dB below"]["cut_short_percent"] == 100.0


def test_false_turns_an_hour() -> None:
    figures = false_turns([Speechless("music", 0.5, 3), Speechless("pink", 1.5, 1)])
    assert figures["false_turns_per_hour"] == 2.0
    assert figures["false_turns_per_hour_by_sound"] == {"music": 6.0, "pink": 0.67}


def test_interruptions() -> None:
    def speech(last_text_ms: float, *, cancelled: bool = True) -> Interruption:
        stages_ms = {"heard": last_text_ms / 10} if last_text_ms > 0 else {}
        return Interruption("speech", True, last_text_ms, cancelled, True, "jfk", stages_ms)

    def hum(*, cancelled: bool) -> Interruption:
        return Interruption("hum", True, None, cancelled, True)

    figures = interruption_figures(
        [
            speech(100),
            speech(-30),
            speech(20),
            speech(900, cancelled=False),
            hum(cancelled=True),
            hum(cancelled=False),
            Interruption("cough", True, None, False, False),
            Interruption("speech", False, None, False, True),
        ]
    )
    assert figures["interruption_to_last_text_ms"] == {"p50": 20.0, "p95": 92.0, "max": 100.0}
    assert figures["slowest_interruptions_ms"] == [
        (100, "jfk", {"heard": 10}),
        (20, "jfk", {"heard": 2}),
        (0, "jfk", {}),
    ]
    assert figures["interruption_stages_ms"] == {"heard": {"p50": 6.0, "p95": 9.6, "max": 10.0}}
    assert figures["interruptions_ignored"] == 1
    assert figures["backchannels_interrupted_percent"] == 33.3
    assert figures["backchannels_interrupted_percent_by_sound"] == {"cough": 0.0, "hum": 50.0}
    assert figures["backchannels_announced"] == 2
    assert figures["answers_too_short"] == 1


def test_of_nothing_there_is_no_share() -> None:
    assert percent(0, 0) is None
    assert percentile([], 50) is None
    assert Tally().figures()["cut_short_percent"] is None


spans = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda s: (s[0], s[0] + s[1]))
)


@given(spans, spans)
def test_covered_counts_samples(these: list[tuple[int, int]], by: list[tuple[int, int]]) -> None:
    these = merged(these)
    inside = {n for start, end in these for n in range(start, end)}
    cover = {n for start, end in by for n in range(start, end)}
    assert covered(these, by) == len(inside & cover)
