"""Resident memory of processes over time, and how fast it grows once all is warm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

WARM_UP_S = 300.0
"""Not judged: caches fill, and the longest piece of work has not come yet."""

_TEN_MINUTES_S = 600.0


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory of these processes together; those that are gone have none."""
    total_kb = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text("ascii", errors="replace")
        except OSError:
            continue
        sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
        total_kb += sum(map(int, sizes))
    return total_kb / 1024


@dataclass
class MemoryOverTime:
    """Samples of one process or group.

    Attributes:
        times_s: When each was taken, ascending.
        megabytes: What there was then.
    """

    times_s: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def note(self, at_s: float, megabytes: float) -> None:
        """Add a sample."""
        self.times_s.append(at_s)
        self.megabytes.append(megabytes)

    def by_minute(self, every_s: float = 60.0) -> list[int]:
        """The last sample of each `every_s`, in whole megabytes."""
        last: dict[int, float] = {}
        for at_s, megabytes in zip(self.times_s, self.megabytes, strict=True):
            last[int(at_s / every_s)] = megabytes
        return [round(megabytes) for megabytes in last.values()]

    def growth_per_10_min(self) -> float | None:
        """Megabytes in ten minutes by a straight line (least squares) through what comes after
        `WARM_UP_S`; None when that is less than as long again."""
        times_s = np.array(self.times_s)
        warm = times_s >= WARM_UP_S
        if not _covers(times_s[warm], WARM_UP_S):
            return None
        slope, _ = np.polyfit(times_s[warm], np.array(self.megabytes)[warm], 1)
        return round(float(slope) * _TEN_MINUTES_S, 1)


def _covers(times_s: Sequence[float] | np.ndarray, least_s: float) -> bool:
    return len(times_s) > 1 and float(times_s[-1] - times_s[0]) >= least_s
