"""The client against a scripted server on a real socket."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.audio.pcm import AudioFormat, Encoding, decode
from agent.client import PCM16_24K, connect
from agent.errors import (
    ConfigError,
    ConnectionFailed,
    EngineFailed,
    EngineUnavailable,
    InvalidEvent,
    LimitExceeded,
    NotAuthorized,
    VoiceAgentError,
)
from agent.protocol import server_events
from tests.helpers.patience import PATIENCE_S
from tests.helpers.scripted_server import (
    Refusal,
    ScriptedServer,
    answer,
    scripted_server,
    user_turn,
)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as running:
        yield running


async def test_opening_applies_the_settings_and_keeps_the_servers_view(
    server: ScriptedServer,
) -> None:
    wanted = {
        "instructions": "Be brief.",
        "audio": {"input": {"transcription": {"language": "en"}}},
    }
    async with connect(server.url, session=wanted) as session:
        assert session.settings["instructions"] == "Be brief."

    assert server.received == [
        {
            "type": "session.update",
            "session": {
                "type": "realtime",
                "output_modalities": ["text"],
                "instructions": "Be brief.",
                "audio": {
                    "input": {
                        "transcription": {"language": "en"},
                        "format": {"type": "audio/pcm", "rate": 24_000},
                    }
                },
            },
        }
    ]


async def test_address_key_model_and_extensions_reach_the_server(server: ScriptedServer) -> None:
    async with connect(server.url, api_key="secret", model="gemma", extensions={"timings"}):
        pass
    assert server.paths == ["/v1/realtime?model=gemma&extensions=timings"]
    assert server.headers["authorization"] == "Bearer secret"


async def test_audio_goes_out_as_binary_messages(server: ScriptedServer) -> None:
    async with connect(server.url) as session:
        await session.send_audio(b"\x01\x02" * 500)
        await session.send_audio(np.full(100, 0.5, dtype=np.float32))
        await session.send_audio(np.full(100, -16_384, dtype=np.int16))
    samples = decode(bytes(server.audio), Encoding.PCM16)
    assert server.audio[:1000] == b"\x01\x02" * 500
    np.testing.assert_array_equal(samples[500:600], np.float32(0.5))
    np.testing.assert_array_equal(samples[600:], np.float32(-0.5))


async def test_long_audio_is_split_into_messages_any_server_takes(server: ScriptedServer) -> None:
    data = np.arange(300_000, dtype="<i2").tobytes()
    async with connect(server.url) as session:
        await session.send_audio(data)
    assert bytes(server.audio) == data


async def test_samples_of_another_rate_are_converted_without_a_seam(
    server: ScriptedServer,
) -> None:
    seconds = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * seconds).astype(np.float32) * 0.5
    async with connect(server.url) as session:
        for start in range(0, tone.size, 777):
            await session.send_audio(tone[start : start + 777], rate_hz=16_000)
    sent = decode(bytes(server.audio), Encoding.PCM16)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(sent.size) / 24_000)
    assert sent.size > 23_000
    # The first milliseconds are the filter's own start.
    np.testing.assert_allclose(sent[600:], expected[600:], atol=2e-3)


async def test_g711_is_declared_and_coded(server: ScriptedServer) -> None:
    pcmu = AudioFormat(Encoding.PCMU, 8_000)
    async with connect(server.url, input_format=pcmu) as session:
        await session.send_audio(np.zeros(80, dtype=np.float32))
    assert server.received[0]["session"]["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert bytes(server.audio) == b"\xff" * 80


@pytest.mark.parametrize(
    ("audio", "complaint"),
    [
        (np.zeros((10, 2), dtype=np.float32), "mono"),
        (np.zeros(10, dtype=np.int32), "int16"),
    ],
)
async def test_audio_that_cannot_be_meant_is_refused(
    server: ScriptedServer, audio: np.ndarray, complaint: str
) -> None:
    async with connect(server.url) as session:
        with pytest.raises(ValueError, match=complaint):
            await session.send_audio(audio)
    assert server.audio == b""


async def test_a_rate_that_is_none_is_refused(server: ScriptedServer) -> None:
    async with connect(server.url) as session:
        with pytest.raises(ValueError, match="positive"):
            await session.send_audio(np.zeros(10, dtype=np.float32), rate_hz=0)


async def test_each_request_is_one_event(server: ScriptedServer) -> None:
    async with connect(server.url) as session:
        await session.send_text("Grüß Gott")
        await session.create_response(instructions="In German.")
        await session.cancel_response()
        await session.cancel_response("resp_1")
        await session.update_session(instructions="Be brief.")
        await session.send({"type": "input_audio_buffer.clear"})
        await server.until_received("input_audio_buffer.clear")
    assert server.received[1:] == [
        {
            "type": "conversation.item.create",
            "item": {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Grüß Gott"}],
            },
        },
        {"type": "response.create", "response": {"instructions": "In German."}},
        {"type": "response.cancel"},
        {"type": "response.cancel", "response_id": "resp_1"},
        {"type": "session.update", "session": {"type": "realtime", "instructions": "Be brief."}},
        {"type": "input_audio_buffer.clear"},
    ]


async def test_events_arrive_in_order_and_the_settings_follow(server: ScriptedServer) -> None:
    server.after_audio(40, *user_turn("item_1", start_ms=0, end_ms=40), *answer("resp_1", "Hi"))
    seen = []
    async with connect(server.url) as session:
        await session.send_audio(bytes(40 * 48))
        await session.update_session(instructions="Be brief.")
        async for event in session:
            seen.append(event["type"])
            if event["type"] == "session.updated":
                break
        assert session.settings["instructions"] == "Be brief."
    assert seen == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "response.created",
        "response.output_text.delta",
        "response.done",
        "session.updated",
    ]


async def test_sending_goes_on_while_nobody_iterates(server: ScriptedServer) -> None:
    flood = [server_events.text_delta("resp_1", "item_1", "x" * 1000)] * 2000
    server.after_audio(40, *flood)
    async with asyncio.timeout(PATIENCE_S), connect(server.url) as session:
        for _ in range(500):
            await session.send_audio(bytes(40 * 48))
        await session.update_session()
        count = 0
        async for event in session:
            if event["type"] == "session.updated":
                break
            count += 1
    assert count == 2000
    assert len(server.audio) == 500 * 40 * 48


async def test_cancelling_an_iteration_loses_no_event(server: ScriptedServer) -> None:
    async with connect(server.url) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await anext(session)
        await session.update_session(instructions="Again.")
        assert (await anext(session))["session"]["instructions"] == "Again."


async def test_closing_ends_the_iteration(server: ScriptedServer) -> None:
    async with connect(server.url) as session:
        task = asyncio.create_task(_collect(session))
        await asyncio.sleep(0)
        await session.close()
        assert await task == []
        await session.close()
        with pytest.raises(ConnectionFailed):
            await session.send_text("too late")


@pytest.mark.parametrize(
    ("code", "reason", "error", "words"),
    [
        (1001, "", ConnectionFailed, "shutting down"),
        (1008, "idle for 900 s", ConnectionFailed, "ended the session: idle for 900 s"),
        (1011, "bug", ConnectionFailed, r"\(1011\): bug"),
        (1013, "", LimitExceeded, "try again later"),
        (3000, "", NotAuthorized, "API key"),
    ],
)
async def test_a_session_the_server_ends_says_why(
    server: ScriptedServer, code: int, reason: str, error: type[VoiceAgentError], words: str
) -> None:
    async with connect(server.url) as session:
        await server.connections[0].close(code, reason)
        with pytest.raises(error, match=words):
            await _collect(session)


async def test_a_normal_close_ends_the_iteration(server: ScriptedServer) -> None:
    async with connect(server.url) as session:
        await server.connections[0].close()
        assert await _collect(session) == []


async def test_a_lost_connection_is_an_error_for_both_directions(server: ScriptedServer) -> None:
    async with connect(server.url) as session:
        server.connections[0].transport.abort()
        with pytest.raises(ConnectionFailed, match="lost") as lost:
            await _collect(session)
        assert lost.value.close_code == 1006
        with pytest.raises(ConnectionFailed, match="lost"):
            await session.send_audio(bytes(48))


async def test_nobody_listens() -> None:
    async with scripted_server() as server:
        url = server.url
    with pytest.raises(ConnectionFailed, match="scripts/serve"):
        async with connect(url):
            pass


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port", "ws://:80"])
async def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="no server address"):
        async with connect(url):
            pass


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (
            401,
            json.dumps({"error": {"message": "Header.", "code": "missing_api_key"}}),
            NotAuthorized,
            "--api-key-file",
        ),
        (401, "", NotAuthorized, "does not know this API key"),
        (403, json.dumps({"error": {"message": "Not this origin."}}), NotAuthorized, "this origin"),
        (403, "", NotAuthorized, "refuses"),
        (503, "", LimitExceeded, "no room"),
        (429, "", LimitExceeded, "no room"),
        (
            503,
            json.dumps({"error": {"message": "Loading.", "code": "engine_unavailable"}}),
            EngineUnavailable,
            "Loading",
        ),
        (
            503,
            json.dumps({"error": {"message": "It crashed.", "code": "engine_failed"}}),
            EngineFailed,
            "It crashed",
        ),
        (404, "", ConnectionFailed, "check the path"),
        (500, "<html>", ConnectionFailed, "HTTP 500"),
    ],
)
async def test_a_refused_connection_says_what_to_do(
    server: ScriptedServer, status: int, body: str, error: type[VoiceAgentError], words: str
) -> None:
    server.refusal = Refusal(HTTPStatus(status), body)
    with pytest.raises(error, match=words):
        async with connect(server.url):
            pass


async def test_settings_the_server_refuses(server: ScriptedServer) -> None:
    problem = InvalidEvent("must be text", param="session.instructions")
    server.reply("session.update", server_events.error(problem))
    with pytest.raises(InvalidEvent, match=r"^session\.instructions: must be text$") as refused:
        async with connect(server.url, session={"instructions": 7}):
            pass
    assert refused.value.param == "session.instructions"


async def test_a_server_that_never_answers(server: ScriptedServer) -> None:
    server.silent = True
    with pytest.raises(ConnectionFailed, match=r"within 0\.05 s"):
        async with connect(server.url, open_timeout_s=0.05):
            pass


async def test_something_that_speaks_no_websocket() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionFailed, match="does not speak WebSocket"):
            async with connect(f"127.0.0.1:{port}"):
                pass


async def test_a_message_that_is_no_event(server: ScriptedServer) -> None:
    async with connect(server.url) as session:
        await server.connections[0].send(json.dumps([1, 2]))
        with pytest.raises(ConnectionFailed, match="no event"):
            await anext(session)


async def test_an_error_in_the_block_still_closes_the_session(server: ScriptedServer) -> None:
    with pytest.raises(KeyError):
        async with connect(server.url):
            raise KeyError("of the caller")
    await server.connections[0].wait_closed()
    assert server.connections[0].close_code == 1000


async def test_base64_audio_can_be_sent_as_a_plain_event(server: ScriptedServer) -> None:
    audio = base64.b64encode(bytes(48)).decode()
    async with connect(server.url, input_format=PCM16_24K) as session:
        await session.send({"type": "input_audio_buffer.append", "audio": audio})
        event = await server.until_received("input_audio_buffer.append")
    assert event["audio"] == audio


async def _collect(session: object) -> list[dict[str, object]]:
    return [event async for event in session]  # type: ignore[attr-defined]


async def test_the_robot_of_the_documentation(server: ScriptedServer) -> None:
    """The first example of docs/client.md, as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)

    async def microphone() -> AsyncIterator[np.ndarray]:
        for _ in range(10):
            yield np.zeros(640, dtype=np.float32)

    spoken: list[str] = []
    voice = SimpleNamespace(stop=lambda: spoken.append("<stop>"), say=spoken.append)
    server.after_audio(200, *user_turn("item_1", start_ms=0, end_ms=90), *answer("r", "Hi ", "you"))
    robot = asyncio.create_task(names["converse"](server.url, microphone(), voice))
    async with asyncio.timeout(PATIENCE_S):
        # Closing normally lets what was sent before arrive, and ends the iteration.
        await server.until_audio(300)
        await server.connections[0].close()
        await robot
    assert spoken == ["<stop>", "Hi ", "you"]
    assert server.received[0]["session"]["instructions"] == "You are Ada, a robot."
