"""Every fast path on the GPU, far beyond the window, against transformers' plain forward.

float32, random checkpoints with the real heads and window: one and two key heads, whose
attention takes different ways through the kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch

from agent.audio.mel import StreamingMel
from agent.engine.gemma import text_ops
from agent.engine.gemma.cache import CachePlan
from agent.engine.gemma.graphs import Steps, StepShapes
from agent.engine.gemma.single import run_single
from scripts.engine_bench.driver import Bench, plain_inputs
from scripts.engine_bench.exactness import difference, eager, encoder_error
from scripts.engine_bench.shapes import (
    CLOSING,
    MEL,
    OPENING,
    Samples,
    noise,
    random_model,
    random_text,
)

pytestmark = pytest.mark.gpu
TOLERANCE = 2e-5


@pytest.fixture(scope="module", params=["one-key-head", "two-key-heads"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    shapes = StepShapes(buckets=(1, 4), close_buckets=(1, 2))
    plan = CachePlan(6, 2048, 2, shapes.slack_tokens)
    yield Bench(random_model(request.param, "cuda", torch.float32), plan, shapes)
    torch.backends.cudnn.allow_tf32 = allowed


@torch.no_grad()
def expected(bench: Bench, ids: list[int], clip: Samples, tokens: list[int]) -> torch.Tensor:
    """Logits after the prompt and after each of the tokens, by one plain forward."""
    inputs = plain_inputs(bench, ids, clip)
    after = torch.tensor([tokens], device=bench.device)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], after], 1)
    with eager(bench.model):
        out = bench.model(**inputs, use_cache=False, logits_to_keep=len(tokens) + 1)
    return out.logits[0].float()


def assert_close(actual: torch.Tensor, wanted: torch.Tensor) -> None:
    kept = torch.isfinite(actual)
    assert float((actual - wanted)[kept].norm() / wanted[kept].norm()) < TOLERANCE


@pytest.mark.parametrize("path", ["operations", "batch", "single", "overlap", "captured"])
@pytest.mark.parametrize("history", [30, 1300])
def test_hearing_closing_and_decoding_of_one_conversation(bench, monkeypatch, path, history):
    decoder = bench.steps.ear.decoder
    if path != "captured":
        changes = {
            "operations": {"ops": text_ops, "single": None},
            "batch": {"single": None},
            "single": {"single": partial(run_single, overlap=False)},
            "overlap": {},
        }[path]
        ear = replace(bench.steps.ear, decoder=replace(decoder, **changes))
        plain = Steps(ear, bench.steps.shapes, bench.steps.suppress)
        monkeypatch.setattr(bench, "steps", plain)
    ids, clip = OPENING + random_text(history, history), noise(3.0, 4)
    tokens = random_text(6, 9)
    slot = bench.cache.allocate()
    bench.speak(slot, ids, clip)
    found = [bench.steps.logits[0].clone()]
    for token in tokens:
        bench.steps.decode([slot], [bench.cache.length(slot)], [token])
        bench.cache.advance(slot, 1)
        found.append(bench.steps.logits[0].clone())
    bench.cache.free(slot)
    for actual, wanted in zip(found, expected(bench, ids, clip, tokens), strict=True):
        assert_close(actual, wanted)


def test_rows_of_very_different_lengths_share_every_step(bench):
    """Three speakers in padded buckets: around the window, far beyond it, nearly empty."""
    cases = [(5, 1.0, 1), (480, 2.2, 2), (1400, 4.7, 3)]
    ids = {}
    clips = {}
    rest, seen = {}, {}
    for history, seconds, seed in cases:
        slot = bench.cache.allocate()
        ids[slot], clips[slot] = OPENING + random_text(history, seed), noise(seconds, seed)
        bench.write(slot, [*ids[slot], bench.config.boa_token_id])
        rest[slot], seen[slot] = StreamingMel(MEL).push(clips[slot]), 0
    size = 4 * bench.piece
    while live := [slot for slot, mel in rest.items() if len(mel) >= size]:
        starts = [bench.cache.length(slot) for slot in live]
        pieces = [rest[slot][:size] for slot in live]
        bench.steps.hear(live, starts, pieces, live, [seen[slot] for slot in live])
        for slot in live:
            bench.cache.advance(slot, bench.piece)
            rest[slot], seen[slot] = rest[slot][size:], seen[slot] + bench.piece
    slots, found = list(ids), {}
    for group in (slots[:2], slots[2:]):
        starts = [bench.cache.length(slot) for slot in group]
        mels, heard = [rest[slot] for slot in group], [seen[slot] for slot in group]
        closing = [CLOSING] * len(group)
        written = bench.steps.close(group, starts, mels, group, heard, closing)
        for row, (slot, count) in enumerate(zip(group, written, strict=True)):
            bench.cache.advance(slot, count)
            found[slot] = [bench.steps.logits[row].clone()]
    tokens = {slot: random_text(4, 20 + slot) for slot in slots}
    for step in range(4):
        starts = [bench.cache.length(slot) for slot in slots]
        bench.steps.decode(slots, starts, [tokens[slot][step] for slot in slots])
        for row, slot in enumerate(slots):
            bench.cache.advance(slot, 1)
            found[slot].append(bench.steps.logits[row].clone())
    for slot in slots:
        bench.cache.free(slot)
        wanted = expected(bench, ids[slot], clips[slot], tokens[slot])
        for actual, one in zip(found[slot], wanted, strict=True):
            assert_close(actual, one)


def test_the_encoder(bench):
    assert encoder_error(bench) < 1e-5


@pytest.mark.parametrize("over", [-1, 0, 1, 2])
def test_greedy_tokens_where_the_prompt_ends_at_the_edge_of_a_kernels_block(bench, over):
    """One more than a multiple of 32 is where torch's own fused attention goes wrong."""
    clip = noise(2.0, 5)
    after = 50 + 1 + len(CLOSING)
    history = OPENING + random_text(27 * 32 + over - after - len(OPENING), 6)
    inputs = plain_inputs(bench, history, clip)
    assert inputs["input_ids"].shape[1] == 27 * 32 + over
    gap = difference(bench, history, clip, 6)
    assert gap is None or gap < 1e-4
