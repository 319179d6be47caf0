"""The real gateway and its real sessions for a page, around an engine that needs no model.

The engine tells speech from other speech by nothing but how loud it was; its answers say what the
conversation holds, so a test sees whether a turn is known in the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from agent.config import ScorerName, Settings
from agent.engine.items import Item, Role
from agent.gateway.driver import SessionDriver
from agent.gateway.services import Services, SessionQuery
from agent.gateway.sessions import Driver
from agent.gateway.transport import Transport
from agent.metrics import Metrics
from agent.vad.hub import VadHub
from agent.vad.scorers import make_scorer
from tests.helpers.browser_server import BrowserServer
from tests.helpers.scripted_engine import ScriptedConversation, ScriptedEngine

LONG_ANSWER_WORDS = 600
_WORD_S = 0.02


class _Conversation(ScriptedConversation):
    async def _script(self, asked: str, items: Sequence[Item]) -> AsyncIterator[str]:
        del asked
        said = [self._text(item) for item in items if item.role is Role.USER]
        yield f"{len(said)} said: {', '.join(said)}. "
        if self._options.get("talkative"):
            for number in range(LONG_ANSWER_WORDS):
                await asyncio.sleep(_WORD_S)
                yield f"{number} "


class _Engine(ScriptedEngine):
    def open(self, settings: object, history: Sequence[Item] = ()) -> _Conversation:
        return _Conversation(self.options, settings, history)  # type: ignore[arg-type]


class TalkingServer(BrowserServer):
    """See the module; `talkative` answers take 12 s, so that there is something to interrupt."""

    talkative = False

    def _make_services(self, settings: Settings) -> Services:
        engine = _Engine({"talkative": self.talkative})
        return Services(settings, engine, VadHub(make_scorer(ScorerName.WEBRTC)), Metrics())

    def _make_session(
        self, session_id: str, transport: Transport, services: Services, query: SessionQuery
    ) -> Driver:
        return SessionDriver(session_id, transport, services, query)


@asynccontextmanager
async def talking_server(*, talkative: bool = False) -> AsyncIterator[TalkingServer]:
    """A running server on a free port of the loopback interface."""
    server = TalkingServer()
    server.talkative = talkative
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
