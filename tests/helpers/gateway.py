"""The real gateway around a trivial session: for tests of everything but the session.

async with gateway(limits={"max_sessions": 1}) as running:
    async with websockets.connect(running.ws_url) as client: …

Run as a program (`python -m tests.helpers.gateway`) it serves until a signal.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import httpx2
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from agent.config import Settings
from agent.engine.contract import Engine, EngineHealth, EngineInfo, ProgressCallback
from agent.errors import EngineUnavailable
from agent.gateway.asgi import create_app
from agent.gateway.auth import load_key
from agent.gateway.server import bind, serve
from agent.gateway.services import Services, SessionQuery
from agent.gateway.tls import load_tls
from agent.gateway.transport import CLOSE_GOING_AWAY, Transport, TransportClosed
from agent.logs import configure_logging
from agent.metrics import Metrics
from tests.helpers.patience import PATIENCE_S


class IdleEngine:
    """An engine that only starts and stops.

    Attributes:
        may_start: `start` waits for it.
        fails: `start` raises then.
        health: What it says of itself.
    """

    info = EngineInfo("idle", "idle-1", note="It does nothing.")

    def __init__(self) -> None:
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.health = EngineHealth()
        self.fails = False
        self.stopped = False

    async def start(self, progress: ProgressCallback) -> None:
        progress("Reading weights", 0.5)
        await self.may_start.wait()
        if self.fails:
            raise EngineUnavailable("the weights are missing")

    async def stop(self) -> None:
        self.stopped = True


class EchoDriver:
    """Answers every message with what it was; some words make it do something else.

    `fail` raises, `flood` sends without end, `leave` closes, `stubborn` ignores shutdowns.
    """

    def __init__(
        self, session_id: str, transport: Transport, services: Services, query: SessionQuery
    ) -> None:
        self.session_id = session_id
        self.transport = transport
        self.query = query
        self.stubborn = False
        self.messages = 0

    async def run(self) -> None:
        await self.transport.send(
            {"type": "session.created", "id": self.session_id, "model": self.query.model}
        )
        while True:
            message = await self.transport.receive()
            self.messages += 1
            match message:
                case "fail":
                    raise RuntimeError("a bug")
                case "leave":
                    await self.transport.close(1008, "asked to")
                case "stubborn":
                    self.stubborn = True
                case "flood":
                    self.flooding = asyncio.create_task(self._flood())
            size = len(message)
            await self.transport.send({"type": f"got.{type(message).__name__}", "size": size})

    async def _flood(self) -> None:
        with suppress(TransportClosed):
            while True:
                await self.transport.send({"type": "flood", "text": "x" * 10_000})
                await asyncio.sleep(0)

    async def shut_down(self, grace_s: float) -> None:
        if self.stubborn:
            await asyncio.sleep(grace_s + 60)
        await self.transport.close(CLOSE_GOING_AWAY, "the server is shutting down")

    def summary(self) -> dict[str, object]:
        return {"messages": self.messages}


@dataclass
class RunningGateway:
    """A gateway that listens.

    Attributes:
        port: Where.
        engine: Its engine.
        metrics: What it counts.
        said: Lines for people, so far.
        serving: Ends with the server.
    """

    port: int
    engine: IdleEngine
    metrics: Metrics
    said: list[str] = field(default_factory=list)
    serving: asyncio.Task[None] = field(init=False)

    @property
    def url(self) -> str:
        """Its address for HTTP, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Its realtime endpoint."""
        return f"ws://127.0.0.1:{self.port}/v1/realtime"

    async def until_said(self, part: str) -> str:
        """Wait for a line that holds `part`."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for line in self.said:
                    if part in line:
                        return line
                await asyncio.sleep(0.01)

    async def until_alive(self) -> None:
        """Wait until it answers, and so has its signal handlers."""
        async with httpx2.AsyncClient() as client:
            assert (await client.get(f"{self.url}/healthz")).status_code == 200


@asynccontextmanager
async def gateway(*, loading: bool = False, **settings: Any) -> AsyncIterator[RunningGateway]:
    """Run a gateway on a free port; it is ready unless `loading`."""
    engine = IdleEngine()
    if loading:
        engine.may_start.clear()
    made = Settings(**({"port": 0, "limits": {"shutdown_grace_s": 0.2}} | settings))
    listener = bind(made.host, made.port)
    running = RunningGateway(listener.getsockname()[1], engine, Metrics())
    running.serving = asyncio.create_task(_serve(made, listener, running))
    try:
        if loading:
            await running.until_alive()
        else:
            await running.until_said("Open http")
        yield running
    finally:
        if not running.serving.done():
            signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                await running.serving


async def _serve(settings: Settings, listener: Any, running: RunningGateway) -> None:
    services = Services(
        settings, cast("Engine", running.engine), hub=cast("Any", None), metrics=running.metrics
    )
    app = create_app(services, EchoDriver, key=load_key(settings))
    await serve(app, listener, running.said.append, load_tls(settings))


async def get(running: RunningGateway, path: str, **headers: str) -> httpx2.Response:
    """What it answers to a GET."""
    async with httpx2.AsyncClient() as client:
        return await client.get(running.url + path, headers=headers)


class NotRefused(AssertionError):
    """A connection was opened that should not have been."""


async def event(client: ClientConnection) -> dict[str, Any]:
    """The next event that comes."""
    async with asyncio.timeout(PATIENCE_S):
        parsed: dict[str, Any] = json.loads(await client.recv())
    return parsed


async def refused(url: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Connect, be refused, and give the status and the error of the body."""
    try:
        async with connect(url, **options):
            raise NotRefused(url)
    except InvalidStatus as caught:
        response = caught.response
    assert response.headers["Content-Type"] == "application/json"
    return response.status_code, json.loads(response.body)["error"]


def metric(running: RunningGateway, name: str, **labels: str) -> float:
    """What is counted under that name and these labels."""
    for family in text_string_to_metric_families(running.metrics.render().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return 0.0


async def until_metric(running: RunningGateway, value: float, name: str, **labels: str) -> None:
    """Wait until that is counted."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if metric(running, name, **labels) == value:
                return
            await asyncio.sleep(0.01)


async def _main() -> None:
    settings = Settings(port=0)
    listener = bind(settings.host, settings.port)
    services = Services(
        settings, cast("Engine", IdleEngine()), hub=cast("Any", None), metrics=Metrics()
    )
    await serve(create_app(services, EchoDriver, key=load_key(settings)), listener)


if __name__ == "__main__":
    configure_logging("info")
    asyncio.run(_main())
    sys.exit(0)
