"""The decoder's small operations in plain torch: the reference and the CPU path.

`text_kernels` has the same functions as fused GPU kernels.
All reduce and multiply in float32 and round once, when they store.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from agent.engine.gemma.audio_ops import rms
from agent.engine.gemma.text_weights import LayerWeights
from agent.engine.gemma.weights import Norm


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the tokens of a step belong.

    Attributes:
        slots: int64[rows], each row's slot of the cache; no two alike.
        starts: int64[rows], tokens the slot has already.
        counts: int64[rows], how many of the step's tokens are real, the first ones.
    """

    slots: Tensor
    starts: Tensor
    counts: Tensor

    def last(self) -> Rows:
        """Only the last real token of each row; a row without any stays without."""
        starts = (self.starts + self.counts - 1).clamp(min=0)
        return Rows(self.slots, starts, self.counts.clamp(max=1))


def norm(x: Tensor, by: Norm) -> Tensor:
    """RMSNorm."""
    return rms(x, by).to(x.dtype)


def join_norm(
    x: Tensor, residual: Tensor, after: Norm, before: Norm, scale: float
) -> tuple[Tensor, Tensor]:
    """`h = scale * (residual + after(x))` and `before(h)`."""
    wide = (residual.float() + rms(x, after)) * scale
    return wide.to(residual.dtype), rms(wide, before).to(x.dtype)


def join(x: Tensor, residual: Tensor, after: Norm) -> Tensor:
    """`residual + after(x)`."""
    return (residual.float() + rms(x, after)).to(residual.dtype)


def geglu(gate_up: Tensor) -> Tensor:
    """`gelu(gate) * up` of two halves side by side."""
    gate, up = gate_up.float().chunk(2, -1)
    return (functional.gelu(gate, approximate="tanh") * up).to(gate_up.dtype)


def gate(x: Tensor, by: Tensor) -> Tensor:
    """`gelu(x) * by`."""
    return (functional.gelu(x.float(), approximate="tanh") * by.float()).to(x.dtype)


def per_layer_inputs(projected: Tensor, scale: float, by: Norm, embedded: Tensor) -> Tensor:
    """Every layer's own input: `(norm(scale * projected) + embedded) / sqrt(2)`.

    Args:
        projected: [rows, tokens, layers * p].
        scale: Multiplied onto it.
        by: Norm over p.
        embedded: [rows, tokens, layers * p], looked up and scaled.

    Returns:
        [rows, tokens, layers, p].
    """
    size = by.weight.shape[0] if by.weight is not None else projected.shape[-1]
    shape = (*projected.shape[:-1], -1, size)
    normed = rms(projected.view(shape).float() * scale, by)
    out: Tensor = (normed + embedded.view(shape).float()) * 2.0**-0.5
    return out.to(projected.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding; `x` float32[rows, tokens, heads, d], tables [rows, tokens, 1, d / 2]."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def place(
    qkv: Tensor,
    layer: LayerWeights,
    cache: tuple[Tensor, Tensor],
    tables: tuple[Tensor, Tensor],
    rows: Rows,
) -> Tensor:
    """Normalise and rotate queries, keys and values; write the latter into the cache.

    Args:
        qkv: [rows, tokens, (heads + 2 kv_heads) * head_dim], or queries only.
        layer: Whose.
        cache: Keys and values, each [cache rows, kv_heads, ring, head_dim].
        tables: Cosine and sine, float32[positions, head_dim / 2].
        rows: Where the tokens belong; tokens that are not real go to the last cache row.

    Returns:
        Queries, [rows, tokens, heads, head_dim].
    """
    count, tokens, _ = qkv.shape
    step = torch.arange(tokens, device=qkv.device)
    positions = rows.starts[:, None] + step
    reach = tables[0].shape[0] - 1
    cos, sin = (table[positions.clamp(max=reach)][:, :, None] for table in tables)
    parts = qkv.view(count, tokens, -1, layer.head_dim)
    query = rotate(rms(parts[:, :, : layer.heads], layer.query_norm), cos, sin)
    if layer.key_norm is not None and layer.value_norm is not None:
        middle = layer.heads + layer.kv_heads
        key = rotate(rms(parts[:, :, layer.heads : middle], layer.key_norm), cos, sin)
        value = rms(parts[:, :, middle:], layer.value_norm)
        keys, values = cache
        real = step < rows.counts[:, None]
        slots = torch.where(real, rows.slots[:, None], keys.shape[0] - 1)
        at = positions % keys.shape[2]
        keys[slots, :, at] = key.to(keys.dtype)
        values[slots, :, at] = value.to(values.dtype)
    return query.to(qkv.dtype)


def attend(query: Tensor, cache: tuple[Tensor, Tensor], rows: Rows, window: int | None) -> Tensor:
    """Causal attention of every row's tokens over the tokens its slot has.

    Args:
        query: [rows, tokens, heads, head_dim].
        cache: Keys and values, the step's own already written.
        rows: As for `place`.
        window: How many positions a token sees, its own included; None for all.

    Returns:
        [rows, tokens, heads * head_dim].
    """
    count, tokens, heads, size = query.shape
    out = query.new_zeros(count, tokens, heads * size)
    keys, values = cache
    kv_heads, ring = keys.shape[1], keys.shape[2]
    for row in range(count):
        start, real = int(rows.starts[row]), int(rows.counts[row])
        if real == 0:
            continue
        first = 0 if window is None else max(0, start - window + 1)
        at = torch.arange(first, start + real, device=query.device)
        slot = int(rows.slots[row])
        if (start + real - 1) // ring == first // ring:
            span = slice(first % ring, first % ring + len(at))
            key, value = keys[slot, :, span], values[slot, :, span]
        else:
            key, value = keys[slot][:, at % ring], values[slot][:, at % ring]
        # The query heads of a shared key head become rows of one product.
        packed = query[row, :real].view(real, kv_heads, -1, size).permute(1, 2, 0, 3)
        packed = packed.reshape(kv_heads, -1, size)
        logits = (packed @ key.transpose(1, 2)).float().view(kv_heads, -1, real, len(at))
        here = start + torch.arange(real, device=query.device)[:, None]
        hidden = at > here
        if window is not None:
            hidden = hidden | (at <= here - window)
        weights = logits.masked_fill(hidden, -torch.inf).softmax(-1).to(value.dtype)
        result = weights.view(kv_heads, -1, len(at)) @ value
        result = result.view(kv_heads, -1, real, size).permute(2, 0, 1, 3)
        out[row, :real] = result.reshape(real, heads * size)
    return out


def pick_last(x: Tensor, rows: Rows) -> Tensor:
    """The last real token of each row: [rows, tokens, n] to [rows, 1, n]."""
    index = (rows.counts - 1).clamp(min=0)[:, None, None].expand(-1, 1, x.shape[-1])
    return x.gather(1, index)
