"""One session over one connection, from its first moment to its last log line."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from agent.gateway.client_secrets import ClientSecrets
from agent.gateway.services import Services, SessionQuery
from agent.gateway.sessions import DriverFactory, Phase, Sessions, outcome
from agent.gateway.transport import (
    CLOSE_GOING_AWAY,
    CLOSE_INTERNAL_ERROR,
    CLOSE_NORMAL,
    Transport,
    TransportClosed,
)

log = structlog.get_logger()


class SessionTransport(Transport, Protocol):
    """A transport that says how it ended."""

    ended: TransportClosed | None
    """None while it is open."""


class Call(SessionTransport, Protocol):
    """A connection that its client can end by HTTP."""

    def hang_up(self) -> None:
        """End it as if its client had closed it."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the routes work with; `app.state.gateway`."""

    services: Services
    sessions: Sessions
    make_driver: DriverFactory
    client_secrets: ClientSecrets = field(default_factory=ClientSecrets)
    calls: dict[str, Call] = field(default_factory=dict)
    call_tasks: set[asyncio.Task[None]] = field(default_factory=set)


async def serve_session(
    gateway: Gateway, session_id: str, transport: SessionTransport, query: SessionQuery
) -> None:
    """Run a session's driver; whatever it raises ends here and ends this session only."""
    began_s = time.monotonic()
    log.info("session opened", transport=transport.name, model=query.model and query.model[:100])
    driver = gateway.make_driver(session_id, transport, gateway.services, query)
    failed = False
    try:
        await gateway.sessions.run(driver)
    except TransportClosed:
        log.debug("driver left the end of its connection to the gateway")
    except Exception:
        failed = True
        log.exception("session failed")
        await transport.close(CLOSE_INTERNAL_ERROR, "internal error; the session is lost")
    finally:
        draining = gateway.sessions.phase is Phase.DRAINING
        await transport.close(CLOSE_GOING_AWAY if draining else CLOSE_NORMAL, "")
        ended = transport.ended
        label = outcome(ended, failed=failed)
        gateway.services.metrics.sessions.labels(label).inc()
        log.info(
            "session closed",
            transport=transport.name,
            outcome=label,
            code=ended and ended.code,
            # What the peer gives as a reason may be anything, words of its user included.
            reason=(ended and not ended.by_peer and ended.reason) or None,
            duration_s=round(time.monotonic() - began_s, 1),
            **driver.summary(),
        )
