"""Plays recordings into a running server with `voice-agent say`; shared by measuring scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.audio.pcm import SAMPLE_RATE_HZ
from tests.helpers.speech import recordings


def recordings_between(language: str, from_s: float, to_s: float) -> list[Path]:
    """The tests' recordings of that length; ends the script where there are none."""
    files = [
        clip.path
        for clip in recordings(language)
        if from_s <= clip.samples().size / SAMPLE_RATE_HZ <= to_s
    ]
    if not files:
        sys.exit(f"no recording of {from_s} to {to_s} s in {language}")
    return files


def play(files: Iterable[Path], language: str, *options: str) -> list[dict[str, Any]]:
    """One conversation over all files; ends the script as `say` ended when that failed.

    Args:
        files: In any format that `say` reads.
        language: Of the speech.
        options: More options of `say`.

    Returns:
        What `say --json` prints, one object a turn.
    """
    command = [sys.executable, "-m", "agent.cli", "say", "--json", "--language", language]
    command += [*options, *map(str, files)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return [json.loads(line) for line in done.stdout.splitlines()]
