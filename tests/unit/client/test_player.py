from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.pcm import Encoding, decode
from agent.client.player import PIECE_S, Player
from agent.client.upload import PCM16_24K

PIECE_SAMPLES = 960


class World:
    """A clock that only moves when somebody sleeps or sending takes time."""

    def __init__(self, sending_takes_s: float = 0.0, wakes_late_by_s: float = 0.0) -> None:
        self.now = 1000.0
        self.sending_takes_s = sending_takes_s
        self.wakes_late_by_s = wakes_late_by_s
        self.sent: list[tuple[float, bytes]] = []
        self.player = Player(self.send, PCM16_24K, clock=lambda: self.now, sleep=self.sleep)

    async def send(self, data: bytes) -> None:
        self.sent.append((self.now - 1000.0, data))
        self.now += self.sending_takes_s

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds + self.wakes_late_by_s

    @property
    def times_ms(self) -> list[float]:
        return [round(at * 1000, 3) for at, _ in self.sent]


def ramp(seconds: float) -> np.ndarray:
    return np.linspace(-1, 1, round(seconds * 24_000), dtype=np.float32)


async def test_pieces_leave_when_their_last_sample_would_have_been_recorded() -> None:
    world = World()
    await world.player.play(ramp(0.16), paced=True)
    assert world.times_ms == [40, 80, 120, 160]


async def test_late_wake_ups_do_not_add_up() -> None:
    world = World(sending_takes_s=0.001, wakes_late_by_s=0.003)
    await world.player.play(ramp(40.0), paced=True)
    assert len(world.sent) == 1000
    assert world.times_ms[-1] == pytest.approx(40_000 + 3)


async def test_a_player_that_was_held_up_catches_up() -> None:
    world = World()
    await world.player.play(ramp(0.08), paced=True)
    world.now += 0.2
    await world.player.play(ramp(0.28), paced=True)
    assert world.times_ms == [40, 80, 280, 280, 280, 280, 280, 320, 360]


async def test_without_pacing_nothing_waits() -> None:
    world = World()
    await world.player.play(ramp(10.0), paced=False)
    assert set(world.times_ms) == {0.0}


async def test_pacing_after_a_burst_starts_at_the_present() -> None:
    world = World()
    await world.player.play(ramp(0.08), paced=True)
    await world.player.play(ramp(10.0), paced=False)
    world.now += 5.0
    await world.player.play_silence(0.08, paced=True)
    assert world.times_ms[-2:] == [5120, 5160]


@given(lengths=st.lists(st.integers(0, 3000), max_size=6))
async def test_what_is_sent_joins_to_what_was_played(lengths: list[int]) -> None:
    world = World()
    parts = [np.linspace(-0.9, 0.9, length, dtype=np.float32) for length in lengths]
    for part in parts:
        await world.player.play(part, paced=True)
    sent = decode(b"".join(data for _, data in world.sent), Encoding.PCM16)
    np.testing.assert_allclose(sent, np.concatenate([*parts, []]), atol=1e-4)
    assert world.player.position_ms == pytest.approx(sum(lengths) / 24)


async def test_silence_is_digital_silence_of_that_length() -> None:
    world = World()
    await world.player.play_silence(0.5, paced=True)
    assert b"".join(data for _, data in world.sent) == bytes(24_000)


async def test_when_a_position_was_sent() -> None:
    world = World()
    await world.player.play(ramp(0.1), paced=True)
    at = world.player.sent_at
    assert at(0.0) == pytest.approx(1000.04)
    assert at(39.0) == pytest.approx(1000.04)
    assert at(40.0) == pytest.approx(1000.04), "the sample before the border is the last one"
    assert at(41.0) == pytest.approx(1000.08)
    assert at(100.0) == pytest.approx(1000.1)
    assert at(101.0) is None


def test_the_piece_is_what_the_tests_count_in() -> None:
    assert round(PIECE_S * 24_000) == PIECE_SAMPLES
