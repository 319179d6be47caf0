"""The running server: its socket, the loading of its engine, its signals and its end."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from agent.config import Limits
from agent.engine.contract import Engine
from agent.errors import ConfigError
from agent.gateway.heap import give_back_freed
from agent.gateway.progress import Say, progress_lines, say_on_stdout
from agent.gateway.serving import Gateway
from agent.gateway.sessions import Phase
from agent.gateway.wire import WebSocketWire

log = structlog.get_logger()

PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 20.0
ENGINE_STOP_S = 1.0
"""An engine that does not stop within this is left to the end of the process."""

CEILING_FACTOR = 2
"""Messages up to this many times `max_message_bytes` are taken in and answered with an
`error` event; beyond it the connection is closed with 1009, because it would have to be
read to its end to go on."""


def bind(host: str, port: int) -> socket.socket:
    """Listen at an address; port 0 takes any free one.

    Raises:
        ConfigError: The address is not ours or is taken; the message says which setting.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        advice = (
            "; another program listens there, perhaps a server of yours: port 0 finds a free one"
        )
        raise ConfigError(
            f"host, port: cannot listen at {host} port {port}: {error}{advice if taken else ''}"
        ) from error


def page_address(listener: socket.socket, *, encrypted: bool = False) -> str:
    """The address of the page, as a browser on this machine can open it."""
    scheme = "https" if encrypted else "http"
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104  # compared, not bound
        host = "127.0.0.1"
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


class Server(uvicorn.Server):
    """uvicorn's server, with an end that lets sessions finish.

    The first SIGTERM or SIGINT drains the sessions while probes are still answered, and
    then shuts down; a second one does not wait.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]) -> None:
        """`drain` is awaited between the first signal and the shutdown."""
        super().__init__(config)
        self._drain = drain
        self._draining: asyncio.Future[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals while serving; unlike uvicorn's, raise none of them again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, number.name)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def stop(self, reason: str) -> None:
        """Begin the end; called again, hurry."""
        again, self.should_exit = self.should_exit, True
        if again:
            self.force_exit = True
            if self._draining is not None:
                self._draining.cancel()
        log.info("stopping", reason=reason, at_once=again)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then shut down."""
        self._draining = asyncio.ensure_future(self._drain())
        await asyncio.wait({self._draining})
        if not self._draining.cancelled():
            self._draining.result()
        await super().shutdown(sockets)


def uvicorn_config(
    app: ASGIApp, limits: Limits, tls: ssl.SSLContext | None = None
) -> uvicorn.Config:
    """How uvicorn serves us."""
    return uvicorn.Config(
        app,
        http="h11",
        ws=WebSocketWire,
        ws_max_size=CEILING_FACTOR * limits.max_message_bytes,
        # Compressing noise costs much and saves nothing.
        ws_per_message_deflate=False,
        ws_ping_interval=PING_INTERVAL_S,
        ws_ping_timeout=PING_TIMEOUT_S,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Nothing here depends on the client's address or scheme, so no header may set them.
        proxy_headers=False,
        timeout_graceful_shutdown=1,
        ssl_context_factory=(lambda *_: tls) if tls is not None else None,
    )


async def serve(
    app: Starlette,
    listener: socket.socket,
    say: Say = say_on_stdout,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve an application of `create_app` until a signal; loads its engine meanwhile.

    Args:
        app: Admits sessions as soon as the engine is loaded.
        listener: From `bind`; closed at the end.
        say: Shows a line to people.
        tls: From `load_tls`; None for plain http.

    Raises:
        EngineError: The engine cannot run here.
    """
    gateway: Gateway = app.state.gateway
    services, sessions = gateway.services, gateway.sessions
    limits = services.settings.limits
    server = Server(
        uvicorn_config(app, limits, tls), drain=lambda: sessions.drain(limits.shutdown_grace_s)
    )
    watching = asyncio.create_task(services.loop_watch.run(services.metrics.loop_delay_s))
    giving_back = asyncio.create_task(give_back_freed())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    loading = asyncio.create_task(_load(services.engine, say))
    try:
        await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done() and not serving.done():
            if loading.exception() is None:
                _keep_for_good()
                sessions.phase = Phase.READY
                address = page_address(listener, encrypted=tls is not None)
                _welcome(services.engine, address, say)
            else:
                server.stop("the engine cannot be loaded")
        await serving
        if loading.done():
            loading.result()
    finally:
        tasks = (watching, giving_back, loading, serving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _stop(services.engine)


async def _load(engine: Engine, say: Say) -> None:
    async with progress_lines(f"Loading {engine.info.model}", say) as progress:
        await engine.start(progress)


def _keep_for_good() -> None:
    """Take what is loaded by now out of garbage collection, for the life of the process.

    It is some 70,000 objects that never become garbage. Looking through them again and again
    stopped the event loop for 50 to 120 ms each time with 200 sessions; without, 20 to 40 ms.
    """
    gc.collect()
    gc.freeze()


def _welcome(engine: Engine, address: str, say: Say) -> None:
    info = engine.info
    say(f"Engine: {info.name}, {info.model}")
    if info.note:
        say(info.note)
    say(f"Open {address} in a browser. Ctrl-C stops the server.")


async def _stop(engine: Engine) -> None:
    try:
        async with asyncio.timeout(ENGINE_STOP_S):
            await engine.stop()
    except TimeoutError:
        log.warning("engine did not stop in time", limit_s=ENGINE_STOP_S)
