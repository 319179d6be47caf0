"""Bad input against the real server: an error that names the field, and everybody goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.helpers.bad_input import BAD_MESSAGES, Bad
from tests.helpers.patience import PATIENCE_S
from tests.helpers.server import RunningServer
from tests.helpers.speech import recording, spoken_pieces

pytestmark = pytest.mark.models

TEN_MB = 10_000_000

BEYOND_EVENTS = [
    Bad("binary of an odd length", bytes(1_921), "audio", "invalid_value", "sample"),
    Bad("binary of 10 MB", bytes(TEN_MB), None, "message_too_large", "8388608"),
    Bad("text of 10 MB", " " * TEN_MB, None, "message_too_large", "8388608"),
]


async def until(client: ClientConnection, kind: str) -> dict[str, Any]:
    """The next event of a kind; no error may come before it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            event = json.loads(await client.recv())
            if event["type"] == kind:
                return event
            assert event["type"] != "error", event


async def say(client: ClientConnection, **event: Any) -> None:
    await client.send(json.dumps(event))


async def type_and_be_answered(client: ClientConnection) -> None:
    content = [{"type": "input_text", "text": "Hello."}]
    item = {"type": "message", "role": "user", "content": content}
    await say(client, type="conversation.item.create", item=item)
    await say(client, type="response.create", response={"max_output_tokens": 8})
    response = (await until(client, "response.done"))["response"]
    assert response["status"] in {"completed", "incomplete"}, response
    assert response["output"]


def speech() -> list[bytes]:
    """A few seconds of a real voice and a silence that ends the turn."""
    return spoken_pieces(recording(at_least_s=2, at_most_s=4).samples())


async def test_every_bad_message_gets_its_error_and_nobody_is_harmed(
    small_server: RunningServer,
) -> None:
    async with connect(small_server.ws_url) as bystander, connect(small_server.ws_url) as client:
        await until(bystander, "session.created")
        await until(client, "session.created")
        for bad in [*BAD_MESSAGES, *BEYOND_EVENTS]:
            await client.send(bad.message)
            error = (await told(client))["error"]
            assert (error["param"], error["code"]) == (bad.param, bad.code), bad.name
            assert bad.says in error["message"], bad.name
        # The session still hears, and so does everybody else.
        for one in (client, bystander):
            await one.send(b"".join(speech()))
            await until(one, "input_audio_buffer.committed")
            response = (await until(one, "response.done"))["response"]
            assert response["status"] in {"completed", "incomplete"}, response


async def told(client: ClientConnection) -> dict[str, Any]:
    """The next event, which must be an error."""
    async with asyncio.timeout(PATIENCE_S):
        event = json.loads(await client.recv())
    assert event["type"] == "error", event
    return event


async def in_speech(client: ClientConnection) -> None:
    pieces = speech()
    for piece in pieces[: len(pieces) // 2]:
        await client.send(piece)
    await until(client, "input_audio_buffer.speech_started")


async def after_a_commit(client: ClientConnection) -> None:
    await in_speech(client)
    await say(client, type="input_audio_buffer.commit")


async def in_an_answer(client: ClientConnection) -> None:
    await client.send(b"".join(speech()))
    await until(client, "response.output_text.delta")


async def with_much_unheard(client: ClientConnection) -> None:
    await client.send(b"".join(speech() * 10))


async def in_a_fragmented_message(client: ClientConnection) -> None:
    async def endless() -> Any:
        yield b"\x00" * 1_000
        client.transport.abort()
        yield b"\x00" * 1_000

    with pytest.raises(ConnectionClosed):
        await client.send(endless())


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "vanished"])
@pytest.mark.parametrize(
    "moment",
    [in_speech, after_a_commit, in_an_answer, with_much_unheard, in_a_fragmented_message],
    ids=lambda moment: moment.__name__,
)
async def test_a_client_may_leave_in_the_middle_of_anything(
    small_server: RunningServer, moment: Callable[[ClientConnection], Any], clean: bool
) -> None:
    async with connect(small_server.ws_url) as bystander:
        await until(bystander, "session.created")
        client = await connect(small_server.ws_url)
        await until(client, "session.created")
        await moment(client)
        if clean:
            await client.close()
        else:
            client.transport.abort()
        await type_and_be_answered(bystander)
        async with asyncio.timeout(PATIENCE_S):
            while small_server.metric("voice_agent_sessions_open") > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert not [line for line in small_server.logs if line["level"] in {"error", "critical"}]
