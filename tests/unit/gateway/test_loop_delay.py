"""How late the loop is, with a clock of our own."""

import asyncio

import pytest

from agent.gateway import loop_delay


class Clock:
    """Time passes only in `sleep`, which takes `lateness_s` longer than asked each time."""

    def __init__(self, lateness_s: list[float]) -> None:
        self.now_s = 100.0
        self.lateness_s = lateness_s

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        if not self.lateness_s:
            raise asyncio.CancelledError
        self.now_s += delay_s + self.lateness_s.pop(0)


class Observed:
    def __init__(self) -> None:
        self.delays_ms: list[float] = []

    def observe(self, delay_s: float) -> None:
        self.delays_ms.append(round(1000 * delay_s, 3))


async def delays_ms(monkeypatch, lateness_s: list[float]) -> list[float]:
    clock, observed = Clock(lateness_s), Observed()
    monkeypatch.setattr(loop_delay, "time", clock)
    monkeypatch.setattr(loop_delay.asyncio, "sleep", clock.sleep)
    with pytest.raises(asyncio.CancelledError):
        await loop_delay.LoopWatch().run(observed)
    return observed.delays_ms


async def test_each_wake_is_measured_against_its_own_due_time(monkeypatch):
    assert await delays_ms(monkeypatch, [0.0, 0.002, 0.0]) == [0.0, 2.0, 0.0]


async def test_a_blocked_loop_delays_all_that_was_due_meanwhile(monkeypatch):
    blocked = await delays_ms(monkeypatch, [0.035, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert blocked == [35.0, 25.0, 15.0, 5.0, 0.0, 0.0]


async def test_a_machine_that_slept_counts_once(monkeypatch):
    assert await delays_ms(monkeypatch, [3600.0, 0.0, 0.0]) == [3_600_000.0, 0.0, 0.0]


async def test_who_asks_learns_that_the_loop_stood_still(monkeypatch):
    clock, watch = Clock([0.0, 0.03, 0.0, 0.0, 0.0]), loop_delay.LoopWatch()
    monkeypatch.setattr(loop_delay, "time", clock)
    assert not watch.stalled_within(0.04)  # nobody watches
    stalled = []

    async def sleep(delay_s: float) -> None:
        stalled.append(watch.stalled_within(0.015))
        await clock.sleep(delay_s)

    monkeypatch.setattr(loop_delay.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await watch.run(Observed())
    # The wakes after the late one make up for it at once: it is as long ago as before.
    assert stalled == [False, False, True, True, True, True]
    clock.now_s += 0.012
    assert not watch.stalled_within(0.01)
    clock.now_s += 0.01
    assert watch.stalled_within(0.01)  # it stands still now
