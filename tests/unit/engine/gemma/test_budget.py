"""Which turns are left out."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from agent.engine.gemma.budget import first_kept, turn_starts
from agent.engine.items import Item, Role

TURNS = st.lists(st.integers(1, 60), max_size=60)


def test_a_turn_is_a_user_item_and_all_that_follows_it() -> None:
    roles = [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL, Role.USER, Role.USER]
    items = [Item(str(n), role, ()) for n, role in enumerate(roles)]
    assert turn_starts(items) == [0, 1, 4, 5]
    assert turn_starts([]) == [0]
    assert turn_starts(items[1:]) == [0, 3, 4]


def test_nothing_is_left_out_before_it_must() -> None:
    assert first_kept([], 100, 50) == 0
    assert first_kept([50, 50], 100, 50) == 0
    assert first_kept([50, 50, 1], 100, 50) == 2
    assert first_kept([500], 100, 50) == 0
    assert first_kept([500, 500], 100, 50) == 1


@given(TURNS)
def test_what_is_kept_fits_unless_it_is_one_turn(turns: list[int]) -> None:
    first = first_kept(turns, 100, 50)
    assert sum(turns[first:]) <= 100 or first == len(turns) - 1


@given(TURNS)
def test_the_beginning_stays_for_many_turns(turns: list[int]) -> None:
    beginnings = [first_kept(turns[:count], 100, 50) for count in range(len(turns) + 1)]
    assert beginnings == sorted(beginnings)
    for before, after in itertools.pairwise(beginnings):
        if after > before:
            # Another block goes only when what was kept has grown from half to the most again.
            assert sum(turns[before : beginnings.index(after)]) > 100
