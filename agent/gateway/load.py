"""How busy the engine is, as far as all sessions of this server together know."""

from __future__ import annotations

from agent.config import EarlyWorkSettings
from agent.engine.contract import Engine


class EngineLoad:
    """Decides whether there is time for work that may turn out to be for nothing.

    Attributes:
        running: Branches that run now, over all sessions.
    """

    def __init__(self) -> None:
        self.running = 0

    def has_time(self, engine: Engine, settings: EarlyWorkSettings) -> bool:
        """Whether an answer may be begun early, or other work that nobody waits for.

        Work that somebody waits for comes first: the engine is left alone from half of what
        it does at a time on, and while speech waits to be understood.
        """
        most = settings.max_running or max(1, engine.info.answers_at_once // 2)
        return self.running < most and not self.is_behind(engine, settings)

    def is_behind(self, engine: Engine, settings: EarlyWorkSettings) -> bool:
        """Whether so much speech waits to be understood that no other may be added."""
        return engine.health.backlog_s > settings.max_backlog_s
