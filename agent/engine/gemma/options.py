"""What the resident engine is called and how it is set up; imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from agent.engine.contract import EngineInfo

TOKEN_MS = 40
"""Speech in one soft token."""

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")

# A step for so many rows costs hardly more than one for a single row (docs/gemma.md).
_ANSWERS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class GemmaOptions:
    """Settings of `GemmaEngine`; defaults are in `agent.config`.

    Attributes:
        model: A folder, or a name on the hub.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …
        dtype: `auto`, `bfloat16` or `float32`.
        context_tokens: Longest prompt plus answer of one conversation.
        memory_share: Of the memory that is free once the weights are loaded.
        slots: Most conversations and branches in memory at once; None for as many as fit.
        piece_ms: Speech is heard in pieces of so much; None to measure what keeps up.
        soft_cache_mib: Host memory for speech that was encoded, so that it need not be again.
        threads: Of torch on the CPU; None for as many as there are cores.
        max_output_tokens: Of answers that do not say theirs.
        summaries: Whether the oldest turns of long conversations are summarised.
    """

    model: str
    device: str
    dtype: str
    context_tokens: int
    memory_share: float
    slots: int | None
    piece_ms: int | None
    soft_cache_mib: int
    threads: int | None
    max_output_tokens: int
    summaries: bool

    def to_json(self) -> dict[str, object]:
        """As `agent.engine.gemma.engine.create` takes it."""
        return asdict(self)

    @property
    def info(self) -> EngineInfo:
        """What the engine is, known before it is loaded."""
        path = Path(self.model)
        name = path.resolve().name if path.is_dir() else self.model
        # Each answer takes a slot beside the one that hears its conversation.
        at_once = _ANSWERS_AT_ONCE if self.slots is None else max(1, self.slots // 2)
        return EngineInfo(
            "gemma",
            name,
            context_tokens=self.context_tokens,
            translates_open=True,
            judges_turn_ends=True,
            answers_at_once=at_once,
        )


def available_bytes() -> int:
    """Host memory that can be had without swapping, within the container's limit.

    Source: https://docs.kernel.org/filesystems/proc.html (MemAvailable) and
    https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max, memory.current).
    """
    lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return free
    return free if limit == "max" else max(0, min(free, int(limit) - used))
