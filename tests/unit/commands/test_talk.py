"""What `voice-agent talk` shows, event by event."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from agent.commands.talk import View
from agent.errors import LimitExceeded
from agent.protocol import server_events
from tests.helpers.scripted_server import answer, spoken_turn


class Screen:
    """A terminal of fixed width that remembers."""

    def __init__(self) -> None:
        self.scrolled = io.StringIO()
        self.console = Console(file=self.scrolled, force_terminal=True, width=80, color_system=None)
        self.view = View(self.console)

    def feed(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            self.view.receive(event)

    @property
    def live(self) -> str:
        with self.console.capture() as capture:
            self.console.print(self.view.render())
        return capture.get()


TURN = spoken_turn(
    "item_1",
    start_ms=0,
    end_ms=900,
    transcript="Tell me [a] joke.",
    deltas=["Knock ", "knock."],
    speech_end_ms=400,
)


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_it_listens_first(screen: Screen) -> None:
    assert screen.live.strip() == "listening"
    assert screen.scrolled.getvalue() == ""


def test_the_states_of_a_turn(screen: Screen) -> None:
    states = []
    for event in TURN:
        screen.feed([event])
        states.append(screen.live.splitlines()[-1].strip())
    started, stopped, committed, heard, created, delta, delta2, done, measured = states
    assert started == "hearing you"
    assert (stopped, committed, heard, created) == ("thinking",) * 4
    assert (delta, delta2) == ("answering",) * 2
    assert (done, measured) == ("listening",) * 2


def test_text_is_live_while_it_grows(screen: Screen) -> None:
    screen.feed(TURN[:6])
    lines = screen.live.splitlines()
    assert lines[0].split() == ["heard", "Tell", "me", "[a]", "joke."]
    assert lines[1].split() == ["answer", "Knock"]


def test_a_finished_turn_scrolls_up_with_its_latencies(screen: Screen) -> None:
    screen.feed(TURN)
    scrolled = " ".join(screen.scrolled.getvalue().split())
    assert "heard Tell me [a] joke. answer Knock knock. latency first token 730 ms" in scrolled
    assert "recognition 180" in scrolled
    assert screen.live.strip() == "listening"


def test_without_measurements_a_turn_scrolls_up_when_the_next_begins(screen: Screen) -> None:
    screen.feed(TURN[:-1])
    assert screen.scrolled.getvalue() == ""
    screen.feed([server_events.speech_started("item_2", 2000)])
    assert "Knock knock." in screen.scrolled.getvalue()
    assert "Knock" not in screen.live


def test_an_interruption_is_marked(screen: Screen) -> None:
    screen.feed(TURN[:6])
    screen.feed([server_events.speech_started("item_2", 2000)])
    screen.feed(answer("resp_item_1", status="cancelled")[-1:])
    assert "Knock (interrupted)" in " ".join(screen.scrolled.getvalue().split())


def test_problems_are_shown(screen: Screen) -> None:
    screen.feed([server_events.error(LimitExceeded("too many items"))])
    assert "too many items" in screen.live
    screen.feed([server_events.session_expiring("idle", 59.6)])
    assert "the session ends in 60 s (idle)" in screen.live
    screen.feed(TURN[:4])
    screen.feed(answer("resp_1", status="failed"))
    screen.feed([server_events.speech_started("item_2", 2000)])
    assert "not answered: the engine has gone" in screen.scrolled.getvalue()


@pytest.mark.parametrize(("amplitude", "bar"), [(0.0, " "), (0.01, "▃"), (1.0, "█")])
def test_the_meter_follows_the_microphone(screen: Screen, amplitude: float, bar: str) -> None:
    screen.view.hear(np.full(640, amplitude, dtype=np.float32))
    assert screen.live.splitlines()[-1][0] == bar
