"""The whole server over a checkpoint that really hears digits: real speech in, meaning out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import httpx2
import soxr

from agent.client import connect
from agent.client.player import Player
from tests.helpers.cli import run
from tests.helpers.hub_server import hub_server
from tests.helpers.patience import PATIENCE_S
from tests.helpers.server import RunningServer, running_server
from tests.helpers.speech import Recording
from tests.helpers.translating import in_a_row, translate

DATA = Path(__file__).parents[1] / "data"
SPOKEN = DATA / "spoken-digits"
SAID = {
    name: clip["digits"]
    for name, clip in json.loads((SPOKEN / "manifest.json").read_text("utf-8")).items()
}
FILES_OF_A_CHECKPOINT = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """`voice-agent serve --model tests/data/tiny-gemma`, ready; the model judges pauses."""
    model = str(DATA / "tiny-gemma")
    options = ("--model", model, "--temperature", "0")
    judge = {"VOICE_AGENT_TURNS__SCORER": "model"}
    with running_server(*options, engine="gemma", **judge) as started:
        yield started


async def test_a_model_is_served_by_its_name_on_the_hub(tmp_path: Path) -> None:
    """As `serve --model google/gemma-4-E2B-it` does it, with a hub on this machine."""
    name = "google/gemma-4-E2B-it"
    options = ("--model", name, "--temperature", "0")
    with hub_server(name, DATA / "tiny-gemma") as hub:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": ""}
        with running_server(*options, engine="gemma", **environment) as started:
            (line,) = await say(started, "three-one-four.wav")
        assert line["answer"] == "You said 3 1 4."
    assert sorted(hub.sent) == sorted(FILES_OF_A_CHECKPOINT)


async def say(server: RunningServer, *names: str) -> list[dict[str, object]]:
    files = [SPOKEN / name for name in names]
    done = await run("say", "--json", "--url", server.url, *files)
    assert done.status == 0, done.stderr
    return done.lines


async def test_spoken_digits_are_answered_and_transcribed(server: RunningServer) -> None:
    """One conversation; a reader who pauses is heard in several turns, at times over an answer."""
    names = list(SAID)
    lines = await say(server, *names)
    completed = [line for line in lines if line["status"] == "completed"]
    assert {Path(str(line["file"])).name for line in completed} == set(names)
    for line in lines:
        answer = f"You said {line['transcript']}."
        assert line["answer"] == answer or line["status"] == "cancelled"
        assert answer.startswith(str(line["answer"]))
    for line in completed:
        stages_ms = line["stages_ms"]
        assert isinstance(stages_ms, dict)
        assert {"endpointing", "queue", "prefill", "first_step"} <= set(stages_ms)
    for name in names:
        heard = [str(line["transcript"]) for line in lines if Path(str(line["file"])).name == name]
        assert " ".join(heard) == SAID[name]


async def test_the_model_judges_the_pauses_of_a_speaker(server: RunningServer) -> None:
    # It waits longest for a judgement: a busy machine makes them slowly.
    detection = {"type": "semantic_vad", "eagerness": "low"}
    settings = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    before = await judged(server)
    text = ""
    async with connect(server.url, session=settings) as session:
        player = Player(session.send_audio, session.input_format)
        samples = soxr.resample(Recording(SPOKEN / "nine.wav", "").samples(), 16_000, 24_000)

        async def speak() -> None:
            await player.play(samples, paced=True)
            await player.play_silence(6.0, paced=True)

        speaking = asyncio.create_task(speak())
        async with asyncio.timeout(PATIENCE_S):
            async for event in session:
                assert event["type"] != "error", event
                text += event["delta"] if event["type"] == "response.output_text.delta" else ""
                if event["type"] == "response.done":
                    break
        speaking.cancel()
    assert text == "You said 9."
    assert await judged(server) > before


async def judged(server: RunningServer) -> float:
    """How many pauses were."""
    async with httpx2.AsyncClient() as http:
        metrics = (await http.get(f"{server.url}/metrics")).text
    lines = [line for line in metrics.splitlines() if 'turn_scores_total{outcome="made"}' in line]
    return float(lines[0].split()[-1]) if lines else 0.0


async def test_spoken_digits_are_captioned_while_they_are_spoken(server: RunningServer) -> None:
    name = "one-to-nine-and-zero.wav"
    settings = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
    shown, transcript = "", None
    async with connect(server.url, session=settings) as session:
        player = Player(session.send_audio, session.input_format)
        samples = soxr.resample(Recording(SPOKEN / name, "").samples(), 16_000, 24_000)

        async def speak() -> None:
            await player.play(samples, paced=True)
            await session.send({"type": "input_audio_buffer.commit"})

        speaking = asyncio.create_task(speak())
        live = 0
        async with asyncio.timeout(PATIENCE_S):
            async for event in session:
                assert event["type"] != "error", event
                if event["type"].endswith("transcription.delta"):
                    shown += event["delta"]
                elif event["type"] == "input_audio_buffer.committed":
                    live = len(shown)
                elif event["type"].endswith("transcription.completed"):
                    transcript = event["transcript"]
                    break
        await speaking
    assert transcript == SAID[name]
    assert live > 0
    assert len(shown.split()) == len(transcript.split())


SPANISH = ["cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"]
GERMAN = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]


@pytest.mark.parametrize(
    ("language", "spoken", "numbers"), [("es", "en", SPANISH), ("German", None, GERMAN)]
)
async def test_spoken_digits_are_translated_in_order(
    server: RunningServer, language: str, spoken: str | None, numbers: list[str]
) -> None:
    clips = [Recording(SPOKEN / name, "").samples() for name in SAID]
    got = await translate(server.base_url, in_a_row(clips), language=language, spoken=spoken)
    assert got.types[-1] == "session.closed"
    digits = " ".join(SAID.values())
    assert got.source == digits
    assert got.text == " ".join(numbers[int(digit)] for digit in digits.split())
