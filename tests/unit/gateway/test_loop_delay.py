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
    watch = loop_delay.LoopWatch()
    with watch.needed(), pytest.raises(asyncio.CancelledError):
        await watch.run(observed)
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
    with watch.needed(), pytest.raises(asyncio.CancelledError):
        await watch.run(Observed())
    # The wakes after the late one make up for it at once: it is as long ago as before.
    assert stalled == [False, False, True, True, True, True]
    clock.now_s += 0.012
    assert not watch.stalled_within(0.01)
    clock.now_s += 0.01
    assert watch.stalled_within(0.01)  # it stands still now


async def test_it_rests_while_there_is_no_session(monkeypatch):
    clock, watch, observed = Clock([0.0] * 9), loop_delay.LoopWatch(), Observed()
    monkeypatch.setattr(loop_delay, "time", clock)
    pause = asyncio.sleep
    steps = asyncio.Semaphore(0)

    async def sleep(delay_s: float) -> None:
        await steps.acquire()
        await clock.sleep(delay_s)

    async def wakes(count: int) -> int:
        """Let it wake so often if it wants to; how often it did in all."""
        for _ in range(count):
            steps.release()
            for _ in range(5):
                await pause(0)
        return len(observed.delays_ms)

    monkeypatch.setattr(loop_delay.asyncio, "sleep", sleep)
    running = asyncio.ensure_future(watch.run(observed))
    assert await wakes(1) == 0
    with watch.needed():
        with watch.needed():
            assert await wakes(1) == 2  # with the step that nobody took
        assert await wakes(1) == 3
    assert await wakes(3) == 4  # it was asleep when the last one left
    clock.now_s += 5  # nobody watches: that is not known to be a stall
    assert not watch.stalled_within(1.0)
    with watch.needed():
        assert await wakes(1) == 7  # with the two steps that nobody took
    assert observed.delays_ms == [0.0] * 7
    running.cancel()
