"""How long to wait: the rules, for any settings."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.config import TurnSettings
from agent.turns.endpointing import LIMIT_MS, UNKNOWN_MS, silence_needed_ms

EAGERNESS = st.sampled_from(["low", "medium", "high", "auto"])
PROBABILITY = st.floats(0.0, 1.0)
SETTINGS = st.builds(
    TurnSettings,
    eot_threshold=st.floats(0.01, 1.0),
    min_endpointing_delay_ms=st.integers(0, 10_000),
    max_endpointing_delay_ms=st.none() | st.integers(0, 20_000),
)


@given(st.none() | PROBABILITY, EAGERNESS, SETTINGS)
def test_never_later_than_the_eagerness_or_the_setting_allows(probability, eagerness, settings):
    needed_ms = silence_needed_ms(probability, eagerness, settings)
    assert 0 <= needed_ms <= LIMIT_MS[eagerness]
    if settings.max_endpointing_delay_ms is not None:
        assert needed_ms <= settings.max_endpointing_delay_ms


@given(st.none() | PROBABILITY, EAGERNESS, SETTINGS)
def test_never_sooner_than_the_shortest_wait_that_fits(probability, eagerness, settings):
    longest_ms = min(LIMIT_MS[eagerness], settings.max_endpointing_delay_ms or 0)
    needed_ms = silence_needed_ms(probability, eagerness, settings)
    assert needed_ms >= min(settings.min_endpointing_delay_ms, longest_ms)


@given(PROBABILITY, PROBABILITY, EAGERNESS, SETTINGS)
def test_the_likelier_the_end_the_shorter_the_wait(one, other, eagerness, settings):
    less, more = sorted((one, other))
    assert silence_needed_ms(less, eagerness, settings) >= silence_needed_ms(
        more, eagerness, settings
    )


@given(st.none() | PROBABILITY, SETTINGS)
@example(0.2734375, TurnSettings(eot_threshold=0.28125, min_endpointing_delay_ms=0))
def test_the_eager_wait_less(probability, settings):
    waits = [silence_needed_ms(probability, name, settings) for name in ("high", "medium", "low")]
    assert waits == sorted(waits)
    assert silence_needed_ms(probability, "auto", settings) == waits[1]


@given(st.floats(0.0, 0.9), EAGERNESS)
def test_the_threshold_parts_sure_from_unsure(threshold_below, eagerness):
    settings = TurnSettings(eot_threshold=0.95)
    shortest_ms = settings.min_endpointing_delay_ms
    assert silence_needed_ms(0.95, eagerness, settings) == shortest_ms
    assert silence_needed_ms(threshold_below, eagerness, settings) > shortest_ms


@pytest.mark.parametrize("eagerness", ["low", "medium", "high", "auto"])
def test_without_a_probability_the_wait_is_fixed(eagerness):
    assert silence_needed_ms(None, eagerness, TurnSettings()) == UNKNOWN_MS[eagerness]


def test_patience_shortens_the_fixed_wait_too():
    assert silence_needed_ms(None, "low", TurnSettings(max_endpointing_delay_ms=600)) == 600
    assert silence_needed_ms(None, "high", TurnSettings(min_endpointing_delay_ms=600)) == 600
