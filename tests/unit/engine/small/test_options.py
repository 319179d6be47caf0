from __future__ import annotations

import pytest

from agent.engine.small import options


@pytest.mark.parametrize(
    ("cores", "threads"),
    [(1, (1, 1)), (2, (1, 1)), (3, (1, 1)), (4, (1, 2)), (8, (3, 4)), (64, (4, 4))],
)
def test_a_core_is_left_to_audio(cores: int, threads: tuple[int, int]) -> None:
    assert options.choose_threads(cores) == threads
