"""A certificate, made as docs/embedding.md says."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.speech import ROOT

SCRIPT = ROOT / "docs" / "examples" / "make_certificate.sh"


@dataclass(frozen=True, slots=True)
class Certificate:
    """Two PEM files."""

    cert: Path
    key: Path


def make_certificate(folder: Path, *names: str) -> Certificate:
    """A certificate for these names and addresses; skips the test without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder.mkdir(exist_ok=True)
    subprocess.run(["sh", SCRIPT, *names], cwd=folder, check=True, capture_output=True)
    return Certificate(folder / "cert.pem", folder / "key.pem")
