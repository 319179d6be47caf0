"""The layers and the head for one token of one row, each product fused with its surroundings.

The same computation as `Decoder`'s layers; on a GPU this is what one conversation's next
token, and the last layers at the end of a turn, run through.
"""

from __future__ import annotations

from torch import Tensor

from agent.engine.gemma import text_kernels
from agent.engine.gemma.cache import Cache
from agent.engine.gemma.text_ops import Rows
from agent.engine.gemma.text_weights import SLIDING, TextWeights
from agent.engine.gemma.vector_kernels import Pending, product


def run_single(
    weights: TextWeights,
    cache: Cache,
    tables: dict[str, tuple[Tensor, Tensor]],
    residual: Tensor,
    per_layer: Tensor,
    rows: Rows,
    first: int,
    *,
    overlap: bool = True,
) -> Tensor:
    """Layers `first` to the last, and the head.

    Args:
        weights, cache, tables: Of the decoder.
        residual: [hidden], what enters layer `first`.
        per_layer: [layers from `first` on, p].
        rows: The one row.
        first: The first layer to run.
        overlap: See `product`.

    Returns:
        float32[vocabulary], logits.
    """
    x: Tensor | Pending = residual
    for place, layer in enumerate(weights.layers[first:]):
        qkv, h = product(layer.qkv, x, before=layer.before_attention, overlap=overlap)
        store = cache.layer(layer.kind, layer.cache)
        query = text_kernels.place(qkv.view(1, 1, -1), layer, store, tables[layer.kind], rows)
        window = weights.window if layer.kind == SLIDING else None
        y = text_kernels.attend(query, store, rows, window).view(-1)
        y, _ = product(layer.out, y, overlap=overlap)
        y, h = product(
            layer.gate_up,
            Pending(y, h, layer.after_attention, 1.0),
            before=layer.before_mlp,
            geglu=True,
            overlap=overlap,
        )
        y, _ = product(layer.down, y, overlap=overlap)
        y, h = product(
            layer.gate_per_layer,
            Pending(y, h, layer.after_mlp, 1.0),
            by=per_layer[place],
            overlap=overlap,
        )
        y, _ = product(layer.project_per_layer, y, overlap=overlap)
        x = Pending(y, h, layer.after_per_layer, layer.scalar)
    logits, _ = product(
        weights.head, x, before=weights.norm, cap=weights.soft_cap or 1e6, overlap=overlap
    )
    return logits
