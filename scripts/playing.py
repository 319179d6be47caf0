"""Plays recordings into a running server with `voice-agent say`; shared by measuring scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


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
