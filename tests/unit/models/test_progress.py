"""Progress is one fraction that never runs wild."""

from __future__ import annotations

from agent.models.progress import Meter


def _meter(total_bytes: int) -> tuple[Meter, list[tuple[str, float | None]]]:
    shown: list[tuple[str, float | None]] = []
    return Meter(
        "tiny", total_bytes, lambda doing, fraction: shown.append((doing, fraction))
    ), shown


def test_finished_pieces_count_from_then_on() -> None:
    meter, shown = _meter(200)

    meter.show("first", 50)
    meter.finish(100)
    meter.show("second", 50)

    assert shown == [("tiny: first", 0.25), ("tiny: second", 0.75)]


def test_small_steps_are_not_reported_one_by_one() -> None:
    meter, shown = _meter(1_000_000)

    for done_bytes in range(0, 1_000_001, 100):
        meter.show("weights", done_bytes)

    assert 100 <= len(shown) <= 210
    assert shown[-1] == ("tiny: weights", 1.0)


def test_more_bytes_than_expected_are_still_all_of_it() -> None:
    meter, shown = _meter(100)

    meter.show("weights", 300)

    assert shown == [("tiny: weights", 1.0)]


def test_an_unknown_amount_has_no_fraction() -> None:
    meter, shown = _meter(100)

    meter.show("waiting", None)

    assert shown == [("tiny: waiting", None)]
