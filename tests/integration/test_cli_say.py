"""`voice-agent say` and `talk` against a scripted server on a real socket."""

from __future__ import annotations

import asyncio
import signal
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from agent.protocol import server_events
from tests.helpers.cli import run, start
from tests.helpers.patience import PATIENCE_S
from tests.helpers.scripted_server import ScriptedServer, answer, scripted_server, spoken_turn

RATE_HZ = 16_000


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as running:
        yield running


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """Half a second of sound."""
    return write_tone(tmp_path / "tone.wav", 0.5)


def write_tone(path: Path, seconds: float) -> Path:
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)
    with wave.open(str(path), "wb") as file:
        file.setsampwidth(2)
        file.setnchannels(1)
        file.setframerate(RATE_HZ)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


async def test_a_recording_is_heard_answered_and_timed(server: ScriptedServer, tone: Path) -> None:
    turn = spoken_turn(
        "item_1",
        start_ms=0,
        end_ms=900,
        transcript="A tone.",
        deltas=["It is ", "an A."],
        speech_end_ms=480,
    )
    server.after_audio(1000, *turn)
    done = await run("say", "--json", "--url", server.url, tone)
    assert done.status == 0, done.stderr
    (line,) = done.lines
    # Both events come once 1000 ms have come, and 480 ms were sent before they came: nothing else
    # is certain of a machine that may be busy.
    between_ms = (server.audio_came_at(1000) - server.audio_came_at(480)) * 1000
    delay_ms = line.pop("turn_end_delay_ms")
    first_token_ms = line.pop("speech_end_to_first_token_ms")
    assert isinstance(delay_ms, float)
    assert isinstance(first_token_ms, float)
    assert between_ms - 0.1 <= delay_ms <= first_token_ms
    assert line == {
        "file": str(tone),
        "turn": 1,
        "transcript": "A tone.",
        "answer": "It is an A.",
        "status": "completed",
        "stages_ms": {"endpointing": 510.0, "recognition": 180.0, "prompt": 40.0},
    }
    assert server.paths == ["/v1/realtime?extensions=timings"]


async def test_several_turns_of_one_file_and_several_files_in_one_session(
    server: ScriptedServer, tmp_path: Path
) -> None:
    files = [write_tone(tmp_path / f"{name}.wav", 0.4) for name in ("first", "second")]
    server.after_audio(200, *spoken_turn("item_1", start_ms=0, end_ms=100, transcript="One."))
    server.after_audio(400, *spoken_turn("item_2", start_ms=200, end_ms=300, transcript="Two."))
    server.after_audio(900, *spoken_turn("item_3", start_ms=600, end_ms=800, transcript="Three."))
    options = ("--json", "--fast", "--no-answer", "--gap-s", 0.3, "--url", server.url)
    done = await run("say", *options, *files)
    assert done.status == 0, done.stderr
    assert [(line["file"], line["turn"], line["transcript"]) for line in done.lines] == [
        (str(files[0]), 1, "One."),
        (str(files[0]), 2, "Two."),
        (str(files[1]), 1, "Three."),
    ]
    assert all(line["speech_end_to_first_token_ms"] is None for line in done.lines)
    assert len(server.paths) == 1
    detection = server.received[0]["session"]["audio"]["input"]["turn_detection"]
    assert detection == {"type": "server_vad", "create_response": False}


async def test_a_session_for_each_recording(server: ScriptedServer, tone: Path) -> None:
    server.after_audio(400, *spoken_turn("item_1", start_ms=0, end_ms=300, transcript="One."))
    options = ("--json", "--fast", "--no-answer", "--new-session", "--gap-s", 0)
    done = await run("say", *options, "--url", server.url, tone, tone)
    assert [line["transcript"] for line in done.lines] == ["One.", "One."]
    assert len(server.paths) == 2


async def test_silence_is_sent_until_the_answer_is_there(
    server: ScriptedServer, tone: Path
) -> None:
    server.after_audio(500, server_events.speech_started("item_1", 0))
    turn = spoken_turn("item_1", start_ms=0, end_ms=900, transcript="A tone.", deltas=["Yes."])
    server.after_audio(800, *turn[1:])
    done = await run("say", "--json", "--fast", "--gap-s", 0, "--url", server.url, tone)
    assert [line["answer"] for line in done.lines] == ["Yes."]
    assert len(server.audio) >= 800 * 48


async def test_a_recording_without_speech_says_so(server: ScriptedServer, tone: Path) -> None:
    done = await run("say", "--json", "--fast", "--gap-s", 0, "--url", server.url, tone)
    assert done.status == 0
    assert done.lines[0]["transcript"] == ""
    assert done.lines[0]["turn"] == 0
    assert "tone.wav: no speech was found" in done.stderr


async def test_a_failed_answer_is_told_and_gives_status_1(
    server: ScriptedServer, tone: Path
) -> None:
    turn = spoken_turn("item_1", start_ms=0, end_ms=300, transcript="A tone.")
    server.after_audio(400, *turn, *answer("resp_1", "It", status="failed"))
    done = await run("say", "--json", "--fast", "--gap-s", 0, "--url", server.url, tone)
    assert done.status == 1
    assert done.lines[0]["status"] == "failed"
    assert done.lines[0]["answer"] == "It"
    assert "the engine has gone" in done.stderr


async def test_text_for_people(server: ScriptedServer, tone: Path) -> None:
    turn = spoken_turn(
        "item_1", start_ms=0, end_ms=300, transcript="A [b]tone[/b].", deltas=["Yes."]
    )
    server.after_audio(400, *turn)
    done = await run("say", "--fast", "--gap-s", 0, "--url", server.url, tone)
    assert done.stdout.splitlines() == [
        "tone.wav  0.5 s",
        "  heard    A [b]tone[/b].",
        "  answer   Yes.",
        "",
    ]


async def test_a_server_that_falls_silent_is_given_up(server: ScriptedServer, tone: Path) -> None:
    server.after_audio(400, server_events.speech_started("item_1", 0))
    options = ("--fast", "--gap-s", 0, "--timeout-s", 0.3)
    done = await run("say", *options, "--url", server.url, tone)
    assert done.status == 1
    assert "the end of the turn is missing" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_server_that_goes_away(server: ScriptedServer, tone: Path) -> None:
    process = await start("say", "--gap-s", 30, "--url", server.url, tone)
    await server.until_audio()
    await server.connections[0].close(1001)
    _, stderr = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 1
    assert stderr.decode() == "voice-agent: The server is shutting down.\n"


async def test_ctrl_c_leaves_cleanly(server: ScriptedServer, tone: Path) -> None:
    process = await start("say", "--gap-s", 30, "--url", server.url, tone)
    await server.until_audio()
    process.send_signal(signal.SIGINT)
    stdout, stderr = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 130
    assert (stdout, stderr) == (b"", b"")
    await server.connections[0].wait_closed()
    assert server.connections[0].close_code == 1000


async def test_nobody_listens(tone: Path) -> None:
    async with scripted_server() as server:
        url = server.url
    done = await run("say", "--url", url, tone)
    assert done.status == 1
    assert "scripts/serve" in done.stderr
    assert done.stderr.count("\n") == 1


async def test_talk_without_a_microphone_says_what_to_do(server: ScriptedServer) -> None:
    done = await run("talk", "--url", server.url, "--device", "no such microphone")
    assert done.status == 2
    assert done.stderr.startswith("voice-agent: ")
    assert "Traceback" not in done.stderr
