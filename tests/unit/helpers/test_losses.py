"""Networks of tests lose what they say they lose."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.helpers.peer import losses

PACKETS = 200_000


@pytest.mark.parametrize(("burst", "in_a_row"), [(None, 1 / 0.95), (3.0, 3.0), (5.0, 5.0)])
def test_the_share_and_the_length_of_bursts_are_those_asked_for(burst, in_a_row):
    fates = list(itertools.islice(losses(random.Random(1), 0.05, burst), PACKETS))
    assert sum(fates) / PACKETS == pytest.approx(0.05, rel=0.05)
    bursts = [len(list(group)) for is_lost, group in itertools.groupby(fates) if is_lost]
    assert sum(bursts) / len(bursts) == pytest.approx(in_a_row, rel=0.05)
