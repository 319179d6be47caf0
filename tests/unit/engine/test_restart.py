from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.config import EngineProcessSettings
from agent.engine.restart import RestartPolicy

SETTINGS = EngineProcessSettings(max_crashes=4, crash_window_s=60, retry_s=20)


def test_the_first_restart_is_at_once_and_the_next_ones_wait_longer() -> None:
    policy = RestartPolicy(SETTINGS)
    assert [policy.crashed(now) for now in (100, 101, 102)] == [0, 0.5, 1]
    assert not policy.has_given_up


def test_too_many_crashes_within_the_window_are_given_up_and_tried_slowly() -> None:
    policy = RestartPolicy(SETTINGS)
    delays = [policy.crashed(now) for now in (100, 101, 102, 103, 123)]
    assert delays[3:] == [20, 20]
    assert policy.has_given_up


def test_old_crashes_are_forgiven() -> None:
    policy = RestartPolicy(SETTINGS)
    for now in (100, 101, 102, 103):
        policy.crashed(now)
    assert policy.crashed(200) == 0
    assert not policy.has_given_up


@given(st.lists(st.floats(0, 1000), min_size=1).map(sorted))
def test_no_wait_is_longer_than_the_slow_retry(times: list[float]) -> None:
    policy = RestartPolicy(SETTINGS)
    assert all(0 <= policy.crashed(now) <= SETTINGS.retry_s for now in times)
