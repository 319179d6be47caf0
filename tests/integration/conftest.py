"""One real server with the embedded engine for all tests that need no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.server import RunningServer, running_server


@pytest.fixture(scope="session")
def small_server() -> Iterator[RunningServer]:
    """`voice-agent serve --engine small`, ready."""
    with running_server() as server:
        yield server
