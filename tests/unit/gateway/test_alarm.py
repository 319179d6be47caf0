"""The alarm rings once by the earliest time, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from agent.gateway.alarm import Alarm
from tests.helpers.patience import PATIENCE_S

loops = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


def rings(new_loop: NewLoop, *after_s: float, cancel: bool = False) -> int:
    """How often an alarm rings that is set to all of these times, in this order."""

    async def run() -> int:
        loop = asyncio.get_running_loop()
        rung: list[float] = []
        alarm = Alarm(loop, lambda: rung.append(loop.time()))
        now = loop.time()
        for seconds in after_s:
            alarm.set(now + seconds)
        if cancel:
            alarm.cancel()
            alarm.cancel()
        await asyncio.sleep(0.05)
        alarm.cancel()
        return len(rung)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(run())


@loops
def test_times_that_have_passed(new_loop: NewLoop) -> None:
    assert rings(new_loop, -1.0, -1.0, -2.0, 0.0) == 1


@loops
def test_the_earliest_time_counts(new_loop: NewLoop) -> None:
    assert rings(new_loop, 3600.0, 0.001, 3600.0) == 1
    assert rings(new_loop, 3600.0, 3599.0) == 0


@loops
def test_cancelled(new_loop: NewLoop) -> None:
    assert rings(new_loop, 0.001, cancel=True) == 0


@loops
def test_it_can_be_set_again_while_it_rings(new_loop: NewLoop) -> None:
    async def run() -> int:
        loop = asyncio.get_running_loop()
        left = [0.0, -1.0, 0.001]
        done = asyncio.Event()

        def ring() -> None:
            if left:
                alarm.set(loop.time() + left.pop())
            else:
                done.set()

        alarm = Alarm(loop, ring)
        ring()
        await asyncio.wait_for(done.wait(), PATIENCE_S)
        return len(left)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(run()) == 0
