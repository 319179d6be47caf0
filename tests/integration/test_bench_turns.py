"""`scripts.bench_turns` against a real server: what it sees there, and without a server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from agent.config import load_settings
from scripts.turns_bench import offline
from scripts.turns_bench.clips import load_clips
from scripts.turns_bench.dialogues import build_pause_dialogues
from scripts.turns_bench.figures import Tally
from scripts.turns_bench.judging import Judge
from scripts.turns_bench.playing import ServerAddress, play_pieces
from scripts.turns_bench.settings import gap_s, turn_detections
from tests.helpers.patience import PATIENCE_S
from tests.helpers.server import RunningServer

pytestmark = pytest.mark.models

ROOT = Path(__file__).parents[2]


async def run(*arguments: str) -> dict[str, dict[str, object]]:
    """The JSON line of a run."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "scripts.bench_turns",
        *arguments,
        cwd=ROOT,
        env=os.environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, stderr.decode()
    return json.loads(stdout.splitlines()[-1])


async def test_offline_agrees_with_the_server(small_server: RunningServer) -> None:
    """A fixed silence ends the same turns at the same samples, to within the work's delay."""
    detection = turn_detections("medium", 500)["server_vad"]
    dialogues = build_pause_dialogues(
        load_clips(), rounds=2, gap_s=gap_s("high", 500), turns_each=3
    )
    sample = [dialogues[0], dialogues[-1]]  # in a quiet room, and over noise
    settings = load_settings()
    scores = await offline.score_all([one.samples for one in sample], settings.vad)
    server, judge = ServerAddress(small_server.url), Judge(settings)
    for dialogue, scored in zip(sample, scores, strict=True):
        there = await play_pieces(server, [dialogue.samples], detection, fast=True)
        here = offline.observe(dialogue.samples, scored, detection, settings, judge)
        assert [(turn.start, turn.end) for turn in there.turns] == [
            (turn.start, turn.end) for turn in here.turns
        ]
        assert len(here.turns) >= len(dialogue.turns)


async def test_a_real_run_in_all_its_parts(small_server: RunningServer) -> None:
    line = await run(
        "--url", small_server.url, "--fast", "--only", "pauses", "--only", "noise",
        "--rounds", "1", "--noise-minutes", "2", "--recordings", "1",
    )  # fmt: skip
    for name in ("server_vad", "semantic_vad"):
        figures = line[name]
        assert figures["speech_heard_percent"] > 90
        assert figures["turns"] == 1
        assert figures["false_turns_per_hour"] is not None
    assert line["played"] == "fast"


async def test_interruptions_are_measured(small_server: RunningServer) -> None:
    line = await run(
        "--url", small_server.url, "--only", "interruptions",
        "--interruptions", "1", "--backchannels", "1", "--recordings", "1",
    )  # fmt: skip
    for name in ("server_vad", "semantic_vad"):
        figures = line[name]
        counted = figures["interruptions"] + figures["backchannels"] + figures["answers_too_short"]
        assert counted == 2


async def test_offline_without_a_server() -> None:
    line = await run("--offline", "--rounds", "1", "--noise-minutes", "1", "--recordings", "1")
    assert line["played"] == "offline"
    tally = Tally()
    assert set(tally.figures()) <= set(line["server_vad"])
    assert line["server_vad"]["speech_heard_percent"] > 90
