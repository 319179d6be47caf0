"""Sampling on the GPU: nothing waits for the device, and the choices are the CPU's."""

from __future__ import annotations

import pytest
import torch

from agent.engine.gemma.sampling import Draws, Sampler, SamplingParameters

pytestmark = pytest.mark.gpu

VOCABULARY = 262_144
ROWS = 64
PARAMETERS = {
    "greedy": SamplingParameters(),
    "published": SamplingParameters(1.0, 64, 0.95),
    "penalised": SamplingParameters(1.0, 64, 0.95, 1.2),
    "whole vocabulary": SamplingParameters(1.0, 0, 0.9),
}


def sampled(
    device: str, logits: torch.Tensor, kinds: list[SamplingParameters], *, watched: bool = False
) -> list[int]:
    sampler = Sampler(VOCABULARY, torch.device(device))
    rows: list[Draws] = [sampler.begin(kind, row, [row, 7]) for row, kind in enumerate(kinds)]
    on_device = logits.to(device)
    torch.cuda.set_sync_debug_mode("error" if watched else "default")
    try:
        sampler.sample(on_device, rows)
        chosen = sampler.sample(on_device, rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [int(token) for token in chosen.tolist()]


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("kind", [*PARAMETERS, "mixed"])
def test_the_gpu_chooses_without_waiting_what_the_cpu_chooses(kind: str) -> None:
    logits = 3 * torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(0))
    several = list(PARAMETERS.values())
    kinds = [PARAMETERS.get(kind, several[row % len(several)]) for row in range(ROWS)]
    chosen = sampled("cuda", logits, kinds, watched=True)
    expected = sampled("cpu", logits, kinds)
    # Sums of probabilities differ in their last bits, and one row in very many with them.
    assert sum(one == other for one, other in zip(chosen, expected, strict=True)) >= ROWS - 1
