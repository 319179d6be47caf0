from __future__ import annotations

from pathlib import Path

import pytest

from agent.engine import cores


@pytest.mark.parametrize(
    ("limit", "usable"),
    [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("9999999 100000", 8), ("?", 8)],
)
def test_a_container_limits_the_cores(
    limit: str, usable: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(f"{limit}\n", "ascii")
    monkeypatch.setattr(cores, "_CGROUP_LIMIT", file)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(8)))
    assert cores.usable_cores() == usable


def test_without_a_container_all_cores_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cores, "_CGROUP_LIMIT", tmp_path / "none")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: {0, 3})
    assert cores.usable_cores() == 2
