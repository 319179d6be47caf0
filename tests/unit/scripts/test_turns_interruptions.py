"""The stages of an interruption, from what a server logs and what a client saw."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from agent.client.player import Player
from scripts.turns_bench.interruptions import Answer, stages_ms
from scripts.turns_bench.settings import INPUT_FORMAT

LOGGED = {
    "position_ms": 100,
    "arrived_at_s": 50.010,
    "heard_ms": 3.0,
    "withheld_ms": -30.0,
    "last_text_ms": 20.0,
    "writing_ms": 1.0,
}


def player_at(now_s: float) -> Player:
    """It has played 200 ms, all at once."""

    async def send(audio: bytes) -> None:
        del audio

    player = Player(send, INPUT_FORMAT, clock=lambda: now_s)
    samples = np.zeros(INPUT_FORMAT.rate_hz // 5, np.float32)
    asyncio.run(player.play(samples, paced=False))
    return player


def test_what_lies_between_client_and_server_counts_too() -> None:
    answer = Answer(last_text_at=50.035)
    assert stages_ms(answer, player_at(50.0), LOGGED) == pytest.approx(
        {
            "way_in": 10.0,
            "heard": 3.0,
            "withheld": -30.0,
            "last_text": 20.0,
            "writing": 1.0,
            "way_out": 5.0,
        }
    )


def test_a_server_that_logs_nothing_here_has_no_stages() -> None:
    assert stages_ms(Answer(), player_at(50.0), None) == {}
