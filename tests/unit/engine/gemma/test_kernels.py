"""The text model's GPU kernels, run by Triton's interpreter, against the plain operations.

Slow, so the shapes are tiny: what is tested is arithmetic of positions, masks and splits, not
speed. On a machine with a GPU `tests/gpu` does the same with real shapes.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret or np.lib.NumpyVersion(np.__version__) >= "2.4.0":
    pytest.skip("Triton's interpreter is not in use, or too old for numpy", allow_module_level=True)

from agent.engine.gemma import text_kernels, text_ops, vector_kernels  # noqa: E402
from agent.engine.gemma.cache import Cache, CachePlan  # noqa: E402
from agent.engine.gemma.single import run_single  # noqa: E402
from agent.engine.gemma.steps import Decoder  # noqa: E402
from agent.engine.gemma.text_ops import Rows  # noqa: E402
from agent.engine.gemma.text_weights import TextWeights  # noqa: E402
from tests.helpers import gemma_oracle as oracle  # noqa: E402
from tests.helpers.tiny_gemma import tiny_config, tiny_model, tiny_tokenizer  # noqa: E402

# The interpreter's own use of numpy; a GPU's sigmoid overflows to the same zero silently.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning"),
]
torch.set_num_threads(1)
MODEL = tiny_model(tiny_config(tiny_tokenizer()))
WEIGHTS = TextWeights.of(MODEL)


def rows(*rows: tuple[int, int, int]) -> Rows:
    return Rows(*(torch.tensor(column) for column in zip(*rows, strict=True)))


@pytest.mark.parametrize("window", [None, 24])
@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("tokens", [1, 5])
def test_attention_over_rings_that_have_gone_round(window, kv_heads, tokens):
    """A row that is empty but for its own tokens, one around the window, one far beyond it."""
    torch.manual_seed(0)
    ring = 32 if window else 128
    keys, values = torch.randn(2, 5, kv_heads, ring, 16)
    query = torch.randn(4, tokens, 4, 16)
    where = rows((2, 0, tokens), (0, 22, tokens), (1, 95, tokens), (3, 7, 0))
    found = text_kernels.attend(query, (keys, values), where, window)
    wanted = text_ops.attend(query, (keys, values), where, window)
    assert torch.allclose(found[:3], wanted[:3], atol=1e-5)


@pytest.mark.parametrize("index", [0, 2, 5])
def test_placing_keys_writes_real_tokens_only(index):
    layer = WEIGHTS.layers[index]
    heads = layer.heads + (2 * layer.kv_heads if layer.owns_cache else 0)
    qkv = torch.randn(2, 3, heads * layer.head_dim)
    tables = tuple(torch.randn(64, layer.head_dim // 2) for _ in range(2))
    where = rows((1, 20, 3), (0, 31, 1))
    outs = []
    for ops in (text_kernels, text_ops):
        cache = torch.zeros(2, 4, layer.kv_heads, 24, layer.head_dim)
        query = ops.place(qkv, layer, (cache[0], cache[1]), tables, where)
        # The last row takes what is not real, in any order.
        outs.append((query, cache[:, :3]))
    for found, wanted in zip(*outs, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("single", [False, True])
def test_decoding_beyond_the_window_gives_the_plain_forwards_logits(single, monkeypatch):
    """The prompt is written by the plain operations, the tokens after it by the kernels."""
    # Few programs: the interpreter runs one after the other.
    monkeypatch.setattr(vector_kernels, "_tile", lambda *_: (16, 4))
    cache = Cache(WEIGHTS, CachePlan(slots=2, slot_tokens=64, snapshots=1, slack_tokens=40))
    ids = [2, *np.random.default_rng(0).integers(15, 200, 41).tolist()]
    slot = cache.allocate()
    plain = Decoder(WEIGHTS, cache)
    prompt = torch.tensor([ids[:40]])
    plain.listen(plain.embed(prompt), prompt, rows((slot, 0, 40)))
    run = (lambda *args: run_single(*args, overlap=False)) if single else None
    fast = Decoder(WEIGHTS, cache, text_kernels, run)
    wanted = oracle.logits(MODEL, oracle.Prompt(ids))
    for at in (40, 41):
        found = fast.decode(torch.tensor([ids[at]]), rows((slot, at, 1)))[0]
        assert float((found - wanted[at]).abs().max()) < 1e-4
