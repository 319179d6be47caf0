from __future__ import annotations

from pathlib import Path

import pytest

from agent.engine.small import options


@pytest.mark.parametrize(
    ("cores", "threads"),
    [(1, (1, 1)), (2, (1, 1)), (3, (1, 1)), (4, (1, 2)), (8, (3, 4)), (64, (4, 4))],
)
def test_a_core_is_left_to_audio(cores: int, threads: tuple[int, int]) -> None:
    assert options.choose_threads(cores) == threads


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("9999999 100000", 8), ("?", 8)],
)
def test_a_container_limits_the_cores(
    limit: str, cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(f"{limit}\n", "ascii")
    monkeypatch.setattr(options, "_CGROUP_LIMIT", file)
    monkeypatch.setattr(options.os, "sched_getaffinity", lambda _: set(range(8)))
    assert options.usable_cores() == cores


def test_without_a_container_all_cores_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(options, "_CGROUP_LIMIT", tmp_path / "none")
    monkeypatch.setattr(options.os, "sched_getaffinity", lambda _: {0, 3})
    assert options.usable_cores() == 2
