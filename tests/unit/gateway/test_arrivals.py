"""What a peer sends is taken in order, audio two packets at a time."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.gateway.arrivals import MAX_AUDIO_PIECES, Arrivals


async def test_a_packet_waits_for_the_next_one_but_not_for_ever():
    arrivals = Arrivals(100)
    arrivals.put_audio(b"1")
    assert arrivals.take() is None
    arrivals.put_audio(b"2")
    assert arrivals.take() == b"12"
    arrivals.put_audio(b"3")
    await arrivals.wait()
    assert arrivals.take() == b"3"


async def test_a_message_comes_after_the_audio_before_it():
    arrivals = Arrivals(100)
    arrivals.put_audio(b"1")
    assert arrivals.put_message("commit")
    arrivals.put_audio(b"2")
    assert [arrivals.take(), arrivals.take(), arrivals.take()] == [b"1", "commit", None]
    arrivals.gather()
    assert arrivals.take() == b"2"


async def test_messages_that_nobody_takes_are_refused_at_a_limit():
    arrivals = Arrivals(10)
    assert arrivals.put_message("äöü")
    assert not arrivals.put_message("12345")
    assert arrivals.take() == "äöü"
    assert arrivals.put_message("1234567890")


async def test_audio_that_nobody_takes_is_bounded():
    arrivals = Arrivals(100)
    for _ in range(4 * MAX_AUDIO_PIECES):
        arrivals.put_audio(b"x")
    taken = arrivals.take()
    assert isinstance(taken, bytes)
    assert len(taken) == 2 * MAX_AUDIO_PIECES
    assert arrivals.take() is None


async def test_waking_ends_a_wait_for_nothing():
    arrivals = Arrivals(100)
    waiting = asyncio.create_task(arrivals.wait())
    await asyncio.sleep(0)
    arrivals.wake()
    await waiting


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["audio", "message", "take"]), max_size=60))
def test_nothing_is_lost_moved_or_doubled(steps):
    async def run() -> None:
        arrivals, put, got = Arrivals(10_000), "", ""
        for number, step in enumerate(steps):
            if step == "audio":
                arrivals.put_audio(b"a")
                put += "a"
            elif step == "message":
                assert arrivals.put_message(f"<{number}>")
                put += f"<{number}>"
            elif (taken := arrivals.take()) is not None:
                got += taken if isinstance(taken, str) else taken.decode()
            assert put.startswith(got)
        arrivals.gather()
        while (taken := arrivals.take()) is not None:
            got += taken if isinstance(taken, str) else taken.decode()
        assert got == put

    asyncio.run(run())
