"""How many cores an engine may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and its container's limit."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = _CGROUP_LIMIT.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
