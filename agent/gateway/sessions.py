"""Which sessions are open, whether another may be, and how all of them end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol

import structlog

from agent.engine.contract import Engine
from agent.errors import EngineFailed, EngineUnavailable, LimitExceeded
from agent.gateway.refusals import Refusal
from agent.gateway.services import Services, SessionQuery
from agent.gateway.transport import (
    CLOSE_GOING_AWAY,
    CLOSE_INTERNAL_ERROR,
    CLOSE_LOST,
    CLOSE_POLICY,
    CLOSE_RESTARTING,
    CLOSE_TRY_AGAIN_LATER,
    Transport,
    TransportClosed,
)
from agent.metrics import Metrics

log = structlog.get_logger()

SHUTDOWN_MARGIN_S = 0.5
"""What a driver may take beyond its grace time before its session is ended for it, and then
what that may take."""


class Driver(Protocol):
    """Runs one session over one transport."""

    async def run(self) -> None:
        """Serve the session until it or its connection ends."""

    async def shut_down(self, grace_s: float) -> None:
        """Let an answer in progress end within `grace_s` seconds, then close with 1001."""

    def summary(self) -> Mapping[str, object]:
        """Counts for the log line of the session's end; no words of anybody."""


class DriverFactory(Protocol):
    """Makes the driver of a new session."""

    def __call__(
        self, session_id: str, transport: Transport, services: Services, query: SessionQuery
    ) -> Driver:
        """Make a driver; it does nothing until it is run."""


class Phase(StrEnum):
    """What the server is doing."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"  # would be ready, but the engine has crashed again and again
    DRAINING = "draining"


class Sessions:
    """All open sessions of a server."""

    def __init__(self, limit: int, engine: Engine, metrics: Metrics) -> None:
        """At most `limit` sessions at a time."""
        self._phase = Phase.LOADING
        self._engine = engine
        self._limit = limit
        self._metrics = metrics
        self._count = 0
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._running: dict[Driver, asyncio.Task[None]] = {}

    @property
    def phase(self) -> Phase:
        """Sessions are admitted only when `READY`; `FAILED` is the engine's and is never set."""
        if self._phase is Phase.READY and not self._engine.health.available:
            return Phase.FAILED
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._phase = phase

    def refusal(self) -> Refusal | None:
        """Why no session may be opened now, or None when one may."""
        if self.phase is Phase.LOADING:
            return Refusal(
                EngineUnavailable("the model is still loading; try again in a few seconds"),
                503,
                CLOSE_RESTARTING,
                headers={"Retry-After": "2"},
            )
        if self.phase is Phase.DRAINING:
            error = LimitExceeded("the server is shutting down", code="shutting_down")
            return Refusal(error, 503, CLOSE_GOING_AWAY, headers={"Retry-After": "5"})
        if self.phase is Phase.FAILED:
            return Refusal(
                EngineFailed("the model has crashed again and again; the server's log says why"),
                503,
                CLOSE_INTERNAL_ERROR,
                headers={"Retry-After": "30"},
            )
        if self._count >= self._limit:
            error = LimitExceeded(
                f"all {self._limit} sessions of this server are in use; try again later",
                code="session_limit_reached",
            )
            return Refusal(error, 503, CLOSE_TRY_AGAIN_LATER, headers={"Retry-After": "10"})
        return None

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Count one session in, from before its handshake to after its end."""
        self._count += 1
        self._nobody.clear()
        self._metrics.sessions_open.inc()
        try:
            yield
        finally:
            self._count -= 1
            if self._count == 0:
                self._nobody.set()
            self._metrics.sessions_open.dec()

    async def run(self, driver: Driver) -> None:
        """Run a driver until it ends, or `drain` ends it; raises what the driver raised."""
        task = asyncio.ensure_future(driver.run())
        self._running[driver] = task
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            del self._running[driver]
        if not task.cancelled():
            task.result()

    async def drain(self, grace_s: float) -> None:
        """Admit nobody, and end every session within `grace_s` and a little."""
        self.phase = Phase.DRAINING
        running = dict(self._running)
        if running:
            log.info("draining", sessions=len(running), grace_s=grace_s)
            await _say_goodbye(running, grace_s)
        try:
            async with asyncio.timeout(SHUTDOWN_MARGIN_S):
                await self._nobody.wait()
        except TimeoutError:
            log.warning("sessions did not close", sessions=self._count)


async def _say_goodbye(running: Mapping[Driver, asyncio.Task[None]], grace_s: float) -> None:
    """Shut drivers down; those that are not done in time are cancelled."""
    goodbyes = [asyncio.ensure_future(driver.shut_down(grace_s)) for driver in running]
    await asyncio.wait([*goodbyes, *running.values()], timeout=grace_s + SHUTDOWN_MARGIN_S)
    for task in (*goodbyes, *running.values()):
        task.cancel()
    for result in await asyncio.gather(*goodbyes, return_exceptions=True):
        if isinstance(result, Exception):
            log.error("session did not shut down", exc_info=result)


def outcome(ended: TransportClosed | None, *, failed: bool) -> str:
    """The metric's label for how a session ended."""
    if failed or ended is None:
        return "error"
    if ended.code == CLOSE_TRY_AGAIN_LATER:
        return "slow_reader"
    if ended.by_peer:
        return "lost" if ended.code == CLOSE_LOST else "client"
    return _OUR_OUTCOMES.get(ended.code, "client")


_OUR_OUTCOMES = {
    CLOSE_GOING_AWAY: "shutdown",
    CLOSE_POLICY: "limit",
    CLOSE_INTERNAL_ERROR: "error",
}
