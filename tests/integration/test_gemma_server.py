"""The whole server over a checkpoint that really hears digits: real speech in, meaning out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.helpers.cli import run
from tests.helpers.server import RunningServer, running_server

DATA = Path(__file__).parents[1] / "data"
SPOKEN = DATA / "spoken-digits"
SAID = {
    name: clip["digits"]
    for name, clip in json.loads((SPOKEN / "manifest.json").read_text("utf-8")).items()
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """`voice-agent serve --model tests/data/tiny-gemma`, ready."""
    model = str(DATA / "tiny-gemma")
    options = ("--model", model, "--temperature", "0")
    with running_server(*options, engine="gemma") as started:
        yield started


async def say(server: RunningServer, *names: str) -> list[dict[str, object]]:
    files = [SPOKEN / name for name in names]
    done = await run("say", "--json", "--url", server.url, *files, timeout_s=120)
    assert done.status == 0, done.stderr
    return done.lines


async def test_spoken_digits_are_answered_and_transcribed(server: RunningServer) -> None:
    """One conversation; a reader who pauses is heard in several turns."""
    names = list(SAID)
    lines = await say(server, *names)
    for line in lines:
        assert line["status"] == "completed"
        assert line["answer"] == f"You said {line['transcript']}."
        stages_ms = line["stages_ms"]
        assert isinstance(stages_ms, dict)
        assert {"endpointing", "queue", "prefill", "first_step"} <= set(stages_ms)
    for name in names:
        heard = [str(line["transcript"]) for line in lines if Path(str(line["file"])).name == name]
        assert " ".join(heard) == SAID[name]
