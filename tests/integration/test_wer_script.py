"""`python -m scripts.wer` over two recordings and a scripted server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import wave
from pathlib import Path

import numpy as np

from tests.helpers.patience import PATIENCE_S
from tests.helpers.scripted_server import scripted_server, spoken_turn

ROOT = Path(__file__).parents[2]


def write_recordings(folder: Path) -> None:
    lines = []
    for number, text in enumerate(["go forward ten meters", "eight the press yard"]):
        with wave.open(str(folder / f"clip{number}.wav"), "wb") as file:
            file.setsampwidth(2)
            file.setnchannels(1)
            file.setframerate(16_000)
            file.writeframes(np.full(16_000, 1000, dtype="<i2").tobytes())
        lines.append(json.dumps({"id": f"clip{number}", "lang": "en", "text": text}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")


async def run(speech: Path, *arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "scripts.wer",
        *arguments,
        cwd=ROOT,
        env={**os.environ, "VOICE_AGENT_SPEECH_DIR": str(speech)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return process.returncode, stdout.decode(), stderr.decode()


async def test_turns_of_a_file_are_joined_and_errors_counted(tmp_path: Path) -> None:
    write_recordings(tmp_path)
    async with scripted_server() as server:
        turns = [(500, "Go forward"), (1000, "10 metres."), (2500, "Eight, depress yard.")]
        for number, (after_ms, heard) in enumerate(turns):
            turn = spoken_turn(f"item_{number}", start_ms=0, end_ms=after_ms, transcript=heard)
            server.after_audio(after_ms, *turn)
        status, stdout, stderr = await run(tmp_path, "server", "--fast", "--url", server.url)
    assert status == 0, stderr
    summary = json.loads(stdout)
    assert summary == {
        "lang": "en",
        "recordings": 2,
        "server": {"wer": 0.25, "errors": 2, "words": 8},
    }
    assert "the press → depress" in " ".join(stderr.replace("│", " ").split())


async def test_joined_speech_has_no_pauses_and_lasts_100_s(tmp_path: Path) -> None:
    write_recordings(tmp_path)
    async with scripted_server() as server:
        text = "go forward 10 meters 8 the press yard " * 50
        turn = spoken_turn("item_1", start_ms=0, end_ms=100_000, transcript=text)
        server.after_audio(100_000, *turn)
        status, stdout, stderr = await run(tmp_path, "joined", "--fast", "--url", server.url)
        # 100 s of it, the least silence after a recording, and a little more while waiting.
        seconds = len(server.audio) / 48_000
    assert status == 0, stderr
    assert json.loads(stdout)["joined"] == {"wer": 0.0, "errors": 0, "words": 400}
    assert 101 <= seconds < 110


async def test_a_measure_that_does_not_exist(tmp_path: Path) -> None:
    status, _, stderr = await run(tmp_path, "everything")
    assert status == 2
    assert "no such measure: everything" in stderr
