"""What every session of one server shares, and what one client asked for in its URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.gateway.load import EngineLoad
from agent.gateway.loop_delay import LoopWatch

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.engine.contract import Engine
    from agent.metrics import Metrics
    from agent.turns.hub import TurnHub
    from agent.vad.hub import VadHub

EXTENSIONS = frozenset({"captions", "timings"})
"""Extensions of the protocol that a client can switch on with `?extensions=a,b`."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts that all sessions of a server share; passed in, never global.

    Attributes:
        settings: Of the server.
        engine: Hears and answers.
        hub: Tells speech from silence.
        metrics: Counts.
        turns: Judges pauses; None where no model can: waits are fixed then.
        load: How much the engine does.
        loop_watch: Says whether the event loop stands still at times.
    """

    settings: Settings
    engine: Engine
    hub: VadHub
    metrics: Metrics
    turns: TurnHub | None = None
    load: EngineLoad = field(default_factory=EngineLoad)
    loop_watch: LoopWatch = field(default_factory=LoopWatch)

    @property
    def engine_is_behind(self) -> bool:
        """Whether speech waits to be understood."""
        return self.load.is_behind(self.engine, self.settings.early)

    @property
    def engine_has_time(self) -> bool:
        """Whether work may be begun that could turn out to be for nothing."""
        return self.load.has_time(self.engine, self.settings.early)


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """The query of the URL a session was opened with.

    Attributes:
        model: `?model=`; any name is accepted, the server has one engine.
        intent: `?intent=`, or None.
        extensions: `?extensions=`, those that this server knows.
        settings: Of the session to begin with, each as in `session.update`, checked already: those
            of a client secret, then those that came with a call.
        translates: Whether it is a translation session; its URL has a path of its own.
    """

    model: str | None = None
    intent: str | None = None
    extensions: frozenset[str] = frozenset()
    settings: tuple[Mapping[str, object], ...] = ()
    translates: bool = False

    @classmethod
    def parse(cls, query: Mapping[str, str], *, translates: bool = False) -> SessionQuery:
        """Read a URL's query; empty values count as absent, unknown extensions are ignored."""
        asked = {name.strip() for name in query.get("extensions", "").split(",")}
        return cls(
            model=query.get("model") or None,
            intent=query.get("intent") or None,
            extensions=EXTENSIONS & asked,
            translates=translates,
        )

    def with_settings(self, settings: Mapping[str, object], intent: str | None) -> SessionQuery:
        """The same, with settings on top of those there are."""
        return replace(self, settings=(*self.settings, settings), intent=intent)
