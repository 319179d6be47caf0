"""How memory over time is judged."""

from __future__ import annotations

import os

import pytest

from scripts.memory_growth import WARM_UP_S, MemoryOverTime, rss_mb


def over_time(points: list[tuple[float, float]]) -> MemoryOverTime:
    memory = MemoryOverTime()
    for at_s, megabytes in points:
        memory.note(at_s, megabytes)
    return memory


def test_growth_is_that_of_the_line_after_the_warm_up() -> None:
    warm = [(WARM_UP_S + second, 500 + second / 60) for second in range(0, 601, 10)]
    assert over_time([(0, 100), (60, 480), *warm]).growth_per_10_min() == pytest.approx(10)
    flat = [(WARM_UP_S + second, 500.0) for second in range(0, 601, 10)]
    assert over_time([(0, 100), *flat]).growth_per_10_min() == 0


@pytest.mark.parametrize(
    "points", [[], [(WARM_UP_S, 5.0)], [(WARM_UP_S, 5.0), (WARM_UP_S + 20, 5.0)]]
)
def test_a_short_time_says_nothing(points: list[tuple[float, float]]) -> None:
    assert over_time(points).growth_per_10_min() is None


def test_the_last_of_each_minute_is_shown() -> None:
    assert over_time([(0, 1), (59, 2), (60, 3.4), (130, 4)]).by_minute() == [2, 3, 4]


def test_resident_memory_of_this_process_and_of_one_that_is_gone() -> None:
    assert rss_mb([os.getpid()]) > 1
    assert rss_mb([2**22 + 1]) == 0
