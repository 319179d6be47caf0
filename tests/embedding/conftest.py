"""What the examples of docs/embedding.md run against: a real server, and a front end of their own.

The server answers without randomness, so that an answer that is to be interrupted is long each
time.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soxr

from tests.helpers.examples import EXAMPLES, SDK_BUNDLE, python_example
from tests.helpers.server import RunningServer, running_server
from tests.helpers.speech import ROOT, Recording, recordings, write_wav
from tests.helpers.wer import word_errors

KEY = "a-key-of-the-tests"
WIRE_RATE_HZ = 24_000
# Long enough to be recognised, and to be no backchannel.
SHORTEST_S = 2.2
# More than an answer of one sentence takes on a busy machine.
PAUSE_S = 9.0


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """`front_end.py`, running.

    Attributes:
        url: Its origin.
        folder: What it serves.
    """

    url: str
    folder: Path


@pytest.fixture(scope="session")
def front_end_port() -> int:
    """A port that is free; the server must know it before the front end is there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("key") / "key.txt"
    file.write_text(KEY)
    return file


@pytest.fixture(scope="session")
def keyed_server(key_file: Path, front_end_port: int) -> Iterator[RunningServer]:
    """`voice-agent serve` with a key, which the front end's pages may use."""
    options = ("--api-key-file", str(key_file), "--temperature", "0")
    with running_server(
        *options, "--allowed-origin", f"http://localhost:{front_end_port}"
    ) as server:
        yield server


@pytest.fixture(scope="session")
def front_end(
    keyed_server: RunningServer,
    key_file: Path,
    front_end_port: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[FrontEnd]:
    """The pages of docs/examples, as their user would serve them."""
    folder = tmp_path_factory.mktemp("front-end")
    for page in [*EXAMPLES.glob("*.html"), *EXAMPLES.glob("*.js")]:
        shutil.copy(page, folder)
    (folder / "voice-agent").symlink_to(ROOT / "web_client")
    if SDK_BUNDLE.is_dir():
        (folder / "agents-realtime").symlink_to(SDK_BUNDLE)
    with python_example(
        "front_end.py", "--server", keyed_server.url, "--api-key-file", str(key_file),
        "--folder", str(folder), "--port", str(front_end_port),
    ) as process:  # fmt: skip
        process.until_printed("Open http")
        yield FrontEnd(f"http://localhost:{front_end_port}", folder)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One recording of a real person, as the examples take it.

    Attributes:
        path: WAV, 24 kHz.
        text: What is said.
    """

    path: Path
    text: str


def check_heard_and_answered(lines: Sequence[str], sentences: Sequence[Sentence]) -> None:
    """Of what an example printed: each sentence was heard, with few errors, and answered."""
    heard = [line.removeprefix("heard: ") for line in lines if line.startswith("heard: ")]
    answers = [line.removeprefix("answer: ") for line in lines if line.startswith("answer: ")]
    assert len(heard) == len(answers) == len(sentences)
    for sentence, words in zip(sentences, heard, strict=True):
        assert word_errors(sentence.text, words).rate <= 0.35
    assert all(answer.strip() for answer in answers)


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> list[Sentence]:
    """Two short recordings."""
    folder = tmp_path_factory.mktemp("sentences")
    made = []
    for number, clip in enumerate(_short_clips()):
        path = folder / f"{number}.wav"
        write_wav(path, _at_wire_rate(clip), WIRE_RATE_HZ)
        made.append(Sentence(path, clip.text))
    return made


@pytest.fixture(scope="session")
def spoken_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser's microphone plays: the first sentence, time to answer it, the second.

    Before them is the moment that a person takes, and a page to connect after the microphone.
    """
    first, second = (_at_wire_rate(clip) for clip in _short_clips())
    path = tmp_path_factory.mktemp("microphone") / "twice.wav"
    pause = np.zeros(round(PAUSE_S * WIRE_RATE_HZ), np.float32)
    spoken = np.concatenate([pause[: WIRE_RATE_HZ * 2], first, pause, second])
    write_wav(path, spoken, WIRE_RATE_HZ)
    return path


def _short_clips() -> list[Recording]:
    clips = [clip for clip in recordings() if len(clip.samples()) >= SHORTEST_S * 16_000]
    clips.sort(key=lambda clip: len(clip.samples()))
    if len(clips) < 2:
        pytest.skip("needs two recordings")
    return clips[:2]


def _at_wire_rate(clip: Recording) -> np.ndarray:
    return soxr.resample(clip.samples(), 16_000, WIRE_RATE_HZ)
