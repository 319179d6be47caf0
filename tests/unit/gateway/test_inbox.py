"""What waits for the driver: order, room, and reading on slowly."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gateway import inbox
from agent.gateway.inbox import AudioMessage, Inbox, Stalled
from agent.protocol.client_events import RefusedEvent, SessionUpdate
from tests.helpers.patience import PATIENCE_S

FAR_TOO_SLOW = 1e-9
UPDATE = json.dumps({"type": "session.update", "session": {"type": "realtime"}})


def append(data: bytes) -> str:
    audio = base64.b64encode(data).decode()
    return json.dumps({"type": "input_audio_buffer.append", "audio": audio})


def entries(box: Inbox) -> list[object]:
    """All that waits, audio joined as far as it is taken in one piece."""
    taken: list[object] = []
    while box:
        entry = box.take()
        taken.append(b"".join(one.data for one in entry) if isinstance(entry, list) else entry)
    return taken


MESSAGES = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=60).map(append),
        st.just(UPDATE),
        st.just("nonsense"),
        st.none(),
    )
)


@given(MESSAGES, st.lists(st.booleans()))
def test_nothing_is_lost_or_out_of_order_and_all_room_comes_back(
    messages: list[str | bytes | None], takes: list[bool]
) -> None:
    async def check() -> None:
        box = Inbox(100, 1000)
        wanted: list[object] = []
        got: list[object] = []

        def take() -> None:
            entry = box.take()
            got.extend(list(entry) if isinstance(entry, list) else [entry])

        for number, message in enumerate(messages):
            if message is None:
                box.put_stalled()
            else:
                box.put(message, 0.0)
            wanted.append(message)
            if number < len(takes) and takes[number]:
                take()
        while box:
            take()
        assert len(got) == len(wanted)
        for entry, message in zip(got, wanted, strict=True):
            match entry:
                case AudioMessage(data=data, in_event=in_event):
                    assert message == (append(data) if in_event else data)
                case Stalled():
                    assert message is None
                case SessionUpdate():
                    assert message == UPDATE
                case _:
                    assert isinstance(entry, RefusedEvent)
                    assert message == "nonsense"
        await asyncio.wait_for(box.wait_for_room(), PATIENCE_S)

    asyncio.run(check())


def test_audio_that_waits_is_taken_in_one_piece_up_to_the_next_event() -> None:
    box = Inbox(100, 1000)
    for message in (b"ab", append(b"cd"), UPDATE, b"ef", bytes(inbox.MAX_PIECE_BYTES), b"gh"):
        box.put(message, 0.0)
    taken = entries(box)
    assert taken[0] == b"abcd"
    assert taken[2:] == [b"ef", bytes(inbox.MAX_PIECE_BYTES), b"gh"]


async def waits(box: Inbox) -> bool:
    """Whether the reader waits, once all that can run has run."""
    reader = asyncio.ensure_future(box.wait_for_room())
    for _ in range(10):
        await asyncio.sleep(0)
    waiting = not reader.done()
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    return waiting


async def test_the_reader_waits_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "SLOW_BYTES_PER_S", FAR_TOO_SLOW)
    box = Inbox(100, 100_000)
    box.put(bytes(100), 0.0)
    assert not await waits(box)
    box.put(b"one more", 0.0)
    assert await waits(box)
    box.take()
    assert not await waits(box)


async def test_a_full_inbox_is_filled_slowly_so_that_pings_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inbox, "SLOW_BYTES_PER_S", 1e9)
    box = Inbox(10, 100_000)
    for _ in range(5):
        box.put(bytes(100), 0.0)
        async with asyncio.timeout(PATIENCE_S):
            await box.wait_for_room()
    assert len(box.take()) == 5


@pytest.mark.parametrize("message", [bytes(10_000), "x" * 10_000])
async def test_with_too_much_waiting_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch, message: str | bytes
) -> None:
    """Neither audio nor events, however small each of them is."""
    monkeypatch.setattr(inbox, "SLOW_BYTES_PER_S", 1e12)
    box = Inbox(10, 200_000)
    read = 0
    while not await waits(box):
        box.put(message, 0.0)
        read += 1
        assert read < 1000
    assert read * len(message) < 200_000 + len(message)
    while box:
        box.take()
    assert not await waits(box)
