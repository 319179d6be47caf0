"""These tests compare with transformers; without the extra `gemma` they are not collected."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

if find_spec("torch") is not None:
    import torch

    if not torch.cuda.is_available():
        # Kernels are interpreted; Triton's own functions too, if it is asked before its import.
        os.environ.setdefault("TRITON_INTERPRET", "1")

collect_ignore_glob = ["test_*.py"] if find_spec("torch") is None else []


@pytest.fixture(scope="session")
def processor():
    """transformers' own processor with the published tokenizer's tokens."""
    from tests.helpers.gemma_chat import published_processor  # needs torch
    from tests.helpers.gemma_prompts import CHECKPOINT

    try:
        return published_processor(CHECKPOINT.tokenizer)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def recorded_tokens(monkeypatch):
    """The tokens of every engine's answers are recorded, for `check_greedy`."""
    from tests.helpers.gemma_engine import record_tokens  # needs torch

    record_tokens(monkeypatch.setattr)


@pytest.fixture
async def engine(recorded_tokens):
    """The whole engine with a tiny random model, a step at a time."""
    from tests.helpers.gemma_engine import ManualEngine  # needs torch

    engine = ManualEngine()
    await engine.start()
    yield engine
    await engine.stop()
