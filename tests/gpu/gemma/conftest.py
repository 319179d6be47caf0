"""These tests need a CUDA device; without one they are not collected."""

from __future__ import annotations

from importlib.util import find_spec


def _has_cuda() -> bool:
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


collect_ignore_glob = [] if _has_cuda() else ["test_*.py"]
