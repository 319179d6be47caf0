"""When there is time for work that may be for nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agent.config import EarlyWorkSettings
from agent.engine.contract import EngineHealth, EngineInfo
from agent.gateway.load import EngineLoad


@pytest.mark.parametrize(
    ("running", "at_once", "most", "backlog_s", "expected"),
    [
        (0, 4, None, 0.0, True),
        (1, 4, None, 0.0, True),
        (2, 4, None, 0.0, False),
        (0, 1, None, 0.0, True),
        (1, 1, None, 0.0, False),
        (2, 4, 3, 0.0, True),
        (0, 4, None, 2.5, False),
    ],
)
def test_it_is_the_lesser_half_of_what_the_engine_does(running, at_once, most, backlog_s, expected):
    load = EngineLoad()
    load.running = running
    engine = SimpleNamespace(
        info=EngineInfo("x", "x", answers_at_once=at_once), health=EngineHealth(backlog_s=backlog_s)
    )
    settings = EarlyWorkSettings(max_running=most)
    assert load.has_time(engine, settings) is expected
    assert load.is_behind(engine, settings) is (backlog_s > 2.0)
