"""Slots, forks, snapshots and what they refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.engine.gemma.cache import Cache, CachePlan  # noqa: E402
from agent.engine.gemma.text_weights import TextWeights  # noqa: E402
from agent.errors import ContextOverflow, EngineBusy, EngineError  # noqa: E402
from tests.helpers.tiny_gemma import tiny_config, tiny_model, tiny_tokenizer  # noqa: E402

torch.set_num_threads(1)
WEIGHTS = TextWeights.of(tiny_model(tiny_config(tiny_tokenizer())))
PLAN = CachePlan(slots=3, slot_tokens=100, snapshots=1, slack_tokens=8)


def test_the_plan_is_what_is_allocated():
    plan = CachePlan.fit(WEIGHTS, 3_000_000, slot_tokens=128, slack_tokens=16)
    cache = Cache(WEIGHTS, plan)
    assert plan.slots > 1
    assert cache.nbytes <= 3_000_000
    bigger = CachePlan(plan.slots + 1, 128, (plan.slots + 2) // 2, 16)
    assert Cache(WEIGHTS, bigger).nbytes > 3_000_000


def test_too_little_memory_says_how_much_is_needed():
    with pytest.raises(EngineError, match="not enough for one conversation of 128 tokens"):
        CachePlan.fit(WEIGHTS, 1000, slot_tokens=128)


def test_a_full_house():
    cache = Cache(WEIGHTS, PLAN)
    slots = [cache.allocate() for _ in range(3)]
    assert sorted(slots) == [0, 1, 2]
    assert cache.free_slots == 0
    with pytest.raises(EngineBusy, match="all 3"):
        cache.allocate()
    cache.free(slots[1])
    assert cache.fork(slots[0]) == slots[1]
    cache.snapshot(slots[0])
    with pytest.raises(EngineBusy, match="snapshots"):
        cache.snapshot(slots[1])


def test_what_does_not_fit_is_refused_before_it_is_written():
    cache = Cache(WEIGHTS, PLAN)
    slot = cache.allocate()
    cache.advance(slot, 96)
    cache.check_room(slot, 4)
    with pytest.raises(ContextOverflow, match=r"96 \+ 5 tokens"):
        cache.check_room(slot, 5)
    with pytest.raises(EngineError, match="slack"):
        cache.check_room(cache.allocate(), 9)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 8)), max_size=30))
def test_truncation_is_allowed_exactly_while_the_ring_holds_the_window(moves):
    cache = Cache(WEIGHTS, CachePlan(1, 400, 0, 8))
    slot = cache.allocate()
    ring: dict[int, int] = {}
    for grow, amount in moves:
        length = cache.length(slot)
        if grow and length + amount <= 400:
            for position in range(length, length + amount):
                ring[position % cache.ring] = position
            cache.advance(slot, amount)
        elif not grow and length >= amount:
            target = length - amount
            window = range(max(0, target - cache.window + 1), target)
            intact = all(ring.get(position % cache.ring) == position for position in window)
            # The cache may be stricter than needed, never laxer.
            if cache.can_truncate(slot, target):
                assert intact
                cache.truncate(slot, target)
            else:
                assert target < length - 1


def test_a_snapshot_is_no_use_once_its_slot_was_cut_below_it():
    cache = Cache(WEIGHTS, PLAN)
    slot = cache.allocate()
    cache.advance(slot, 20)
    snapshot = cache.snapshot(slot)
    cache.truncate(slot, 10)
    with pytest.raises(EngineError, match="below its snapshot"):
        cache.restore(slot, snapshot)
