"""Admission, and the end of all sessions at a shutdown."""

import asyncio

import pytest

from agent.engine.contract import EngineHealth
from agent.gateway.sessions import Phase, Sessions, outcome
from agent.gateway.transport import TransportClosed
from agent.metrics import Metrics
from tests.helpers.gateway import IdleEngine


class FakeDriver:
    """Runs until it is told to shut down; `stubborn` ignores that."""

    def __init__(self, *, stubborn: bool = False, error: Exception | None = None) -> None:
        self.stubborn = stubborn
        self.error = error
        self.started = asyncio.Event()
        self.over = asyncio.Event()
        self.grace_s: float | None = None

    async def run(self) -> None:
        self.started.set()
        await self.over.wait()
        if self.error is not None:
            raise self.error

    async def shut_down(self, grace_s: float) -> None:
        self.grace_s = grace_s
        if not self.stubborn:
            self.over.set()

    def summary(self) -> dict[str, object]:
        return {}


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def engine():
    return IdleEngine()


@pytest.fixture
def sessions(engine, metrics):
    sessions = Sessions(2, engine, metrics)
    sessions.phase = Phase.READY
    return sessions


@pytest.mark.parametrize(
    ("phase", "code", "close_code"),
    [
        (Phase.LOADING, "engine_unavailable", 1012),
        (Phase.DRAINING, "shutting_down", 1001),
    ],
)
def test_sessions_are_admitted_only_when_ready(sessions, phase, code, close_code):
    assert sessions.refusal() is None
    sessions.phase = phase
    refusal = sessions.refusal()
    assert refusal is not None
    assert (refusal.status, refusal.error.code, refusal.close_code) == (503, code, close_code)


def test_no_session_is_admitted_to_an_engine_that_has_failed(sessions, engine):
    engine.health = EngineHealth(ready=False, available=True)
    assert sessions.refusal() is None
    engine.health = EngineHealth(ready=False, available=False)
    refusal = sessions.refusal()
    assert refusal is not None
    assert (refusal.status, refusal.error.code) == (503, "engine_failed")
    assert refusal.close_code == 1011
    assert sessions.phase is Phase.FAILED
    sessions.phase = Phase.DRAINING
    assert sessions.phase is Phase.DRAINING


def test_the_limit_counts_open_sessions(sessions, metrics):
    with sessions.slot():
        assert sessions.refusal() is None
        with sessions.slot():
            refusal = sessions.refusal()
            assert refusal is not None
            assert refusal.error.code == "session_limit_reached"
            assert "2 sessions" in str(refusal.error)
            assert metrics.sessions_open._value.get() == 2
        assert sessions.refusal() is None
    assert metrics.sessions_open._value.get() == 0


async def test_what_a_driver_raises_is_raised(sessions):
    driver = FakeDriver(error=ValueError("bug"))
    driver.over.set()
    with pytest.raises(ValueError, match="bug"):
        await sessions.run(driver)


async def test_draining_lets_drivers_say_goodbye(sessions):
    driver = FakeDriver()
    serving = asyncio.create_task(sessions.run(driver))
    await driver.started.wait()
    await sessions.drain(5.0)
    assert driver.grace_s == 5.0
    assert sessions.phase is Phase.DRAINING
    await serving


async def test_draining_ends_those_that_do_not(sessions, monkeypatch):
    monkeypatch.setattr("agent.gateway.sessions.SHUTDOWN_MARGIN_S", 0.0)
    driver = FakeDriver(stubborn=True)
    serving = asyncio.create_task(sessions.run(driver))
    await driver.started.wait()
    await sessions.drain(0.0)
    await serving
    assert not driver.over.is_set()


async def test_a_driver_that_fails_to_shut_down_does_not_keep_others(sessions, monkeypatch):
    monkeypatch.setattr("agent.gateway.sessions.SHUTDOWN_MARGIN_S", 0.0)

    class Broken(FakeDriver):
        async def shut_down(self, grace_s: float) -> None:
            raise RuntimeError("cannot")

    broken, good = Broken(), FakeDriver()
    serving = [asyncio.create_task(sessions.run(driver)) for driver in (broken, good)]
    await broken.started.wait()
    await good.started.wait()
    await sessions.drain(0.0)
    await asyncio.gather(*serving)
    assert good.over.is_set()


async def test_draining_without_sessions_is_immediate(sessions):
    await sessions.drain(3600.0)
    assert sessions.refusal() is not None


async def test_a_cancelled_session_cancels_its_driver(sessions):
    driver = FakeDriver()
    serving = asyncio.create_task(sessions.run(driver))
    await driver.started.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    await sessions.drain(3600.0)
    assert driver.grace_s is None


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (TransportClosed(1000, by_peer=True), "client"),
        (TransportClosed(1001, by_peer=True), "client"),
        (TransportClosed(1006, by_peer=True), "lost"),
        (TransportClosed(1013, by_peer=True), "slow_reader"),
        (TransportClosed(1000), "client"),
        (TransportClosed(1001), "shutdown"),
        (TransportClosed(1008), "limit"),
        (TransportClosed(1011), "error"),
        (TransportClosed(1013), "slow_reader"),
        (None, "error"),
    ],
)
def test_outcome(ended, expected):
    assert outcome(ended, failed=False) == expected
    assert outcome(ended, failed=True) == "error"
