"""The steps over cached rows against transformers' plain forward and `generate`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.engine.gemma.cache import Cache, CachePlan  # noqa: E402
from agent.engine.gemma.steps import Decoder  # noqa: E402
from agent.engine.gemma.text_ops import Rows  # noqa: E402
from agent.engine.gemma.text_weights import TextWeights  # noqa: E402
from tests.helpers import gemma_oracle as oracle  # noqa: E402
from tests.helpers.tiny_gemma import tiny_config, tiny_model, tiny_tokenizer  # noqa: E402

torch.set_num_threads(1)
MODEL = tiny_model(tiny_config(tiny_tokenizer()))
WEIGHTS = TextWeights.of(MODEL)
PLAN = CachePlan(slots=9, slot_tokens=256, snapshots=2, slack_tokens=16)


def text(count: int, seed: int = 0) -> list[int]:
    rng = np.random.default_rng(seed)
    return [2, *rng.integers(15, WEIGHTS.embed.shape[0], count - 1).tolist()]


class Runner:
    """Feeds several rows at once through the steps."""

    def __init__(self) -> None:
        self.cache = Cache(WEIGHTS, PLAN)
        self.decoder = Decoder(WEIGHTS, self.cache)

    def rows(self, slots: list[int], counts: list[int]) -> Rows:
        for slot, count in zip(slots, counts, strict=True):
            self.cache.check_room(slot, count)
        starts = [self.cache.length(slot) for slot in slots]
        return Rows(torch.tensor(slots), torch.tensor(starts), torch.tensor(counts))

    @torch.no_grad()
    def write(self, parts: dict[int, list[int]], predict: bool, piece: int) -> torch.Tensor | None:
        """Write each slot's tokens, at most `piece`, padded with token 7 to `piece`."""
        slots, counts = list(parts), [len(ids) for ids in parts.values()]
        ids = torch.tensor([ids + [7] * (piece - len(ids)) for ids in parts.values()])
        rows, embeds = self.rows(slots, counts), self.decoder.embed(ids)
        out = None
        if predict:
            out = self.decoder.predict(embeds, ids, rows)
        else:
            self.decoder.listen(embeds, ids, rows)
        for slot, count in zip(slots, counts, strict=True):
            self.cache.advance(slot, count)
        return out

    def fill(self, slot: int, ids: list[int], piece: int = 16) -> torch.Tensor:
        """A whole prompt in pieces; the logits after it."""
        for at in range(0, len(ids), piece):
            part = ids[at : at + piece]
            out = self.write({slot: part}, at + piece >= len(ids), piece)
        assert out is not None
        return out[0]

    @torch.no_grad()
    def greedy(self, logits: dict[int, torch.Tensor], count: int) -> dict[int, list[int]]:
        """Greedy tokens of several slots together."""
        out = {slot: [oracle.best(MODEL, value)] for slot, value in logits.items()}
        for _ in range(count - 1):
            slots = list(out)
            rows = self.rows(slots, [1] * len(slots))
            step = self.decoder.decode(torch.tensor([out[slot][-1] for slot in slots]), rows)
            for slot, value in zip(slots, step, strict=True):
                self.cache.advance(slot, 1)
                out[slot].append(oracle.best(MODEL, value))
        return out


@pytest.mark.parametrize("length", [1, 5, 31, 32, 33, 100])
@pytest.mark.parametrize("piece", [3, 16])
def test_pieces_give_the_logits_of_one_forward(length, piece):
    runner = Runner()
    ids = text(length)
    actual = runner.fill(runner.cache.allocate(), ids, piece)
    expected = oracle.logits(MODEL, oracle.Prompt(ids))[-1]
    assert float((actual - expected).abs().max()) < 1e-4


def test_greedy_tokens_equal_generate_far_beyond_the_window():
    runner = Runner()
    ids = text(40)
    slot = runner.cache.allocate()
    tokens = runner.greedy({slot: runner.fill(slot, ids)}, 60)[slot]
    assert tokens == oracle.greedy(MODEL, oracle.Prompt(ids), 60)


@settings(max_examples=6, deadline=None)
@given(lengths=st.lists(st.integers(1, 90), min_size=2, max_size=8))
def test_interleaved_rows_of_any_lengths(lengths):
    runner = Runner()
    prompts = {runner.cache.allocate(): text(length, seed) for seed, length in enumerate(lengths)}
    pending = {slot: list(ids) for slot, ids in prompts.items()}
    while any(len(ids) > 1 for ids in pending.values()):
        part = {slot: ids[:7][: len(ids) - 1] for slot, ids in pending.items() if len(ids) > 1}
        runner.write(part, False, 7)
        for slot, ids in part.items():
            pending[slot] = pending[slot][len(ids) :]
    first = runner.write(pending, True, 1)
    tokens = runner.greedy(dict(zip(pending, first, strict=True)), 8)
    for slot, ids in prompts.items():
        assert tokens[slot] == oracle.greedy(MODEL, oracle.Prompt(ids), 8)


def test_rows_without_real_tokens_write_nothing():
    runner = Runner()
    busy, idle = runner.cache.allocate(), runner.cache.allocate()
    runner.fill(idle, text(30, 1))
    before = {kind: tensor[:, idle].clone() for kind, tensor in runner.cache.tensors.items()}
    runner.write({busy: text(5), idle: []}, True, 8)
    for kind, tensor in runner.cache.tensors.items():
        assert torch.equal(tensor[:, idle], before[kind])


def test_a_fork_leaves_its_source_bit_identical_and_continues_alike():
    runner = Runner()
    source = runner.cache.allocate()
    runner.fill(source, text(70))
    before = {kind: tensor[:, source].clone() for kind, tensor in runner.cache.tensors.items()}
    fork = runner.cache.fork(source)
    tail = [20, 30, 40]
    forked = runner.fill(fork, tail)
    runner.greedy({fork: forked}, 40)
    for kind, tensor in runner.cache.tensors.items():
        assert torch.equal(tensor[:, source], before[kind])
    assert torch.equal(runner.fill(source, tail), forked)


def test_rollback_by_a_snapshot_and_within_the_slack():
    runner = Runner()
    slot = runner.cache.allocate()
    head, tail = text(50), [20, 30]
    runner.fill(slot, head)
    expected = oracle.logits(MODEL, oracle.Prompt(head + tail))[-1]
    for lost in (1, 10, 14):
        runner.fill(slot, text(lost, 5))
        runner.cache.truncate(slot, len(head))
        actual = runner.fill(slot, tail)
        assert float((actual - expected).abs().max()) < 1e-4
        runner.cache.truncate(slot, len(head))
    snapshot = runner.cache.snapshot(slot)
    runner.fill(slot, text(90, 6))
    assert not runner.cache.can_truncate(slot, len(head))
    runner.cache.restore(slot, snapshot)
    runner.cache.drop(snapshot)
    assert float((runner.fill(slot, tail) - expected).abs().max()) < 1e-4
