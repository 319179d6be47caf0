"""The choice of how much speech to hear at once."""

import pytest
import structlog

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.engine.gemma import pieces, planning  # noqa: E402
from agent.engine.gemma.cache import CachePlan  # noqa: E402
from agent.engine.gemma.graphs import build_ear  # noqa: E402
from tests.helpers.tiny_gemma import tiny_config, tiny_model, tiny_tokenizer  # noqa: E402

torch.set_num_threads(1)
PLAN = CachePlan(slots=2, slot_tokens=128, snapshots=1, slack_tokens=64)


@pytest.fixture
def ear():
    return build_ear(tiny_model(tiny_config(tiny_tokenizer())), PLAN, max(pieces.PIECES_TOKENS))


class Clock:
    """Moves on by what hearing takes, in place of the real one."""

    def __init__(self, ear, fixed_s: float, each_token_s: float) -> None:
        self.now = 0.0
        hear = type(ear).hear

        def timed(one, mel, clip, rows, keep=None):
            self.now += fixed_s + each_token_s * mel.shape[1] / 4
            return hear(one, mel, clip, rows, keep)

        self.hear = timed

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("fixed_s", "each_token_s", "chosen"),
    [(0.1, 0.0, 8), (0.2, 0.0, 16), (0.5, 0.0, 16), (5.0, 0.01, 16), (0.0, 1.0, 8)],
)
def test_the_smallest_piece_that_keeps_up(ear, monkeypatch, fixed_s, each_token_s, chosen):
    clock = Clock(ear, fixed_s, each_token_s)
    monkeypatch.setattr(type(ear), "hear", clock.hear)
    monkeypatch.setattr(pieces, "perf_counter", clock)
    choice = pieces.choose_piece_tokens(ear)
    assert choice.tokens == chosen
    for tokens, load in choice.loads.items():
        assert load == pytest.approx((fixed_s + each_token_s * tokens) / (0.04 * tokens))


def test_the_measurement_leaves_no_slot_taken(ear):
    pieces.choose_piece_tokens(ear, most_load=float("inf"))
    assert ear.decoder.cache.free_slots == PLAN.slots


@pytest.mark.parametrize(("a_step_s", "warned"), [(0.2, False), (1.0, True)])
def test_a_cpu_that_cannot_keep_up_is_told_so(ear, monkeypatch, a_step_s, warned):
    clock = Clock(ear, a_step_s, 0.0)
    monkeypatch.setattr(type(ear), "hear", clock.hear)
    monkeypatch.setattr(pieces, "perf_counter", clock)
    with structlog.testing.capture_logs() as logs:
        planning.choose_piece(ear, None)
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [entry["seconds_per_second"] for entry in warnings] == ([1.56] if warned else [])
