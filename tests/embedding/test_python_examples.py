"""The Python examples: a robot, and OpenAI's own package."""

from __future__ import annotations

import pytest

from tests.embedding.conftest import KEY, Sentence, check_heard_and_answered
from tests.helpers.examples import python_example
from tests.helpers.server import RunningServer
from tests.helpers.wer import word_errors

pytestmark = [pytest.mark.models, pytest.mark.slow]


def test_the_openai_package_speaks_and_is_answered(
    keyed_server: RunningServer, sentences: list[Sentence]
) -> None:
    files = [str(sentence.path) for sentence in sentences]
    with python_example(
        "openai_sdk.py", "--url", f"{keyed_server.url}/v1", *files, VOICE_AGENT_API_KEY=KEY
    ) as example:
        lines = example.until_done()
    check_heard_and_answered(lines, sentences)


def test_a_robot_that_is_interrupted_says_how_far_it_got(
    keyed_server: RunningServer, sentences: list[Sentence]
) -> None:
    options = [part for one in sentences for part in ("--recording", str(one.path))]
    first, second = sentences
    with python_example(
        "robot.py", "--url", keyed_server.url, *options, VOICE_AGENT_API_KEY=KEY
    ) as robot:
        heard = robot.until_printed(r"\[heard: (.*)\]\n")
        assert word_errors(first.text, heard[1]).rate <= 0.35
        # It speaks, letter by letter, and somebody speaks into that.
        cut = robot.until_printed(r"\n(.+)\n\[interrupted after (\d+) of (\d+) characters\]\n")
        voiced, said, whole = cut[1], int(cut[2]), int(cut[3])
        assert said == len(voiced) < whole
        robot.until_printed(r"\[the server keeps what was said")
        # Then it answers that.
        heard = robot.until_printed(r"interrupted[\s\S]*\[heard: (.*)\]\n")
        assert word_errors(second.text, heard[1]).rate <= 0.35
        robot.until_printed(r"keeps what was said.*\n[^\n]*\n*[^\[\n]{5}")


def test_a_robot_without_a_server_says_so_in_a_sentence() -> None:
    with python_example("robot.py", "--url", "http://127.0.0.1:9") as robot:
        robot.until_printed(r"^robot\.py: Nothing listens at .* Is the server running\?")
        assert "Traceback" not in robot.text
