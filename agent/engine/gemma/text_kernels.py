"""The decoder's small operations as fused GPU kernels; same functions as `text_ops`.

Each reads its inputs once, computes in float32 and rounds once.
"""

from __future__ import annotations

# Triton kernels are not Python that mypy can follow.
# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
import torch
import triton
import triton.language as tl
from torch import Tensor

from agent.engine.gemma.attention_kernels import attend
from agent.engine.gemma.text_ops import Rows, pick_last
from agent.engine.gemma.text_weights import LayerWeights
from agent.engine.gemma.weights import Norm

__all__ = [
    "attend",
    "gate",
    "geglu",
    "join",
    "join_norm",
    "norm",
    "per_layer_inputs",
    "pick_last",
    "place",
]


@triton.jit
def _rms(x, width, eps):
    return x * tl.rsqrt(tl.sum(x * x, 0) / width + eps)


@triton.jit
def _gelu(x):
    # gelu_tanh(x) = x * sigmoid(2 u): exact, and without a difference of near-equal numbers.
    return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


@triton.jit
def _norm_kernel(x, weight, out, width, eps, WEIGHTED: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    real = at < width
    y = _rms(tl.load(x + row * width + at, real, 0.0).to(tl.float32), width, eps)
    if WEIGHTED:
        y = y * tl.load(weight + at, real, 0.0).to(tl.float32)
    tl.store(out + row * width + at, y.to(out.dtype.element_ty), real)


@triton.jit
def _join_kernel(
    x,
    residual,
    after,
    before,
    out,
    normed,
    width,
    after_eps,
    before_eps,
    scale,
    NORM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    real = at < width
    y = _rms(tl.load(x + row * width + at, real, 0.0).to(tl.float32), width, after_eps)
    y = y * tl.load(after + at, real, 0.0).to(tl.float32)
    h = (tl.load(residual + row * width + at, real, 0.0).to(tl.float32) + y) * scale
    tl.store(out + row * width + at, h.to(out.dtype.element_ty), real)
    if NORM:
        n = _rms(h, width, before_eps) * tl.load(before + at, real, 0.0).to(tl.float32)
        tl.store(normed + row * width + at, n.to(normed.dtype.element_ty), real)


@triton.jit
def _geglu_kernel(gate_up, out, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = at < width
    g = tl.load(gate_up + row * 2 * width + at, real, 0.0).to(tl.float32)
    u = tl.load(gate_up + row * 2 * width + width + at, real, 0.0).to(tl.float32)
    tl.store(out + row * width + at, (_gelu(g) * u).to(out.dtype.element_ty), real)


@triton.jit
def _gate_kernel(x, by, out, width, by_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    real = at < width
    g = _gelu(tl.load(x + row * width + at, real, 0.0).to(tl.float32))
    b = tl.load(by + row * by_stride + at, real, 0.0).to(tl.float32)
    tl.store(out + row * width + at, (g * b).to(out.dtype.element_ty), real)


@triton.jit
def _per_layer_kernel(projected, embedded, weight, out, scale, width, eps, BLOCK: tl.constexpr):
    base = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, BLOCK)
    real = at < width
    y = _rms(tl.load(projected + base + at, real, 0.0).to(tl.float32) * scale, width, eps)
    y = y * tl.load(weight + at, real, 0.0).to(tl.float32)
    y = y + tl.load(embedded + base + at, real, 0.0).to(tl.float32)
    tl.store(out + base + at, (y * 0.7071067811865476).to(out.dtype.element_ty), real)


@triton.jit
def _place_kernel(
    qkv,
    query,
    keys,
    values,
    query_weight,
    key_weight,
    cos,
    sin,
    slots,
    starts,
    counts,
    tokens,
    query_eps,
    key_eps,
    value_eps,
    ring,
    last_position,
    scratch,
    slot_stride,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    OWNS: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    row = token // tokens
    step = token % tokens
    half: tl.constexpr = WIDTH // 2
    at = tl.arange(0, half)
    every: tl.constexpr = HEADS + 2 * KV_HEADS if OWNS else HEADS
    base = qkv + (token * every + head) * WIDTH
    first = tl.load(base + at).to(tl.float32)
    second = tl.load(base + half + at).to(tl.float32)
    mean = (tl.sum(first * first, 0) + tl.sum(second * second, 0)) / WIDTH
    position = tl.load(starts + row) + step
    angle = tl.minimum(position, last_position) * half + at
    c = tl.load(cos + angle)
    s = tl.load(sin + angle)
    if head < HEADS:
        scale = tl.rsqrt(mean + query_eps)
        first = first * scale * tl.load(query_weight + at).to(tl.float32)
        second = second * scale * tl.load(query_weight + half + at).to(tl.float32)
        out = query + (token * HEADS + head) * WIDTH
        tl.store(out + at, (first * c - second * s).to(query.dtype.element_ty))
        tl.store(out + half + at, (second * c + first * s).to(query.dtype.element_ty))
    if OWNS:
        if head >= HEADS:
            slot = tl.where(step < tl.load(counts + row), tl.load(slots + row), scratch)
            if head < HEADS + KV_HEADS:
                scale = tl.rsqrt(mean + key_eps)
                first = first * scale * tl.load(key_weight + at).to(tl.float32)
                second = second * scale * tl.load(key_weight + half + at).to(tl.float32)
                out = keys + slot * slot_stride
                out += ((head - HEADS) * ring + position % ring) * WIDTH
                tl.store(out + at, (first * c - second * s).to(keys.dtype.element_ty))
                tl.store(out + half + at, (second * c + first * s).to(keys.dtype.element_ty))
            else:
                scale = tl.rsqrt(mean + value_eps)
                out = values + slot * slot_stride
                out += ((head - HEADS - KV_HEADS) * ring + position % ring) * WIDTH
                tl.store(out + at, (first * scale).to(values.dtype.element_ty))
                tl.store(out + half + at, (second * scale).to(values.dtype.element_ty))


def _warps(block: int) -> int:
    return max(1, min(8, block // 256))


def norm(x: Tensor, by: Norm) -> Tensor:
    """See `text_ops.norm`."""
    x, width = x.contiguous(), x.shape[-1]
    out, block = torch.empty_like(x), triton.next_power_of_2(width)
    weight = x if by.weight is None else by.weight
    _norm_kernel[(x.numel() // width,)](
        x, weight, out, width, by.eps, by.weight is not None, block, num_warps=_warps(block)
    )
    return out


def join_norm(
    x: Tensor, residual: Tensor, after: Norm, before: Norm, scale: float
) -> tuple[Tensor, Tensor]:
    """See `text_ops.join_norm`."""
    out, normed, width = torch.empty_like(residual), torch.empty_like(x), x.shape[-1]
    block = triton.next_power_of_2(width)
    _join_kernel[(x.numel() // width,)](
        x, residual, after.weight, before.weight, out, normed, width, after.eps, before.eps,
        scale, True, block, num_warps=_warps(block),
    )  # fmt: skip
    return out, normed


def join(x: Tensor, residual: Tensor, after: Norm) -> Tensor:
    """See `text_ops.join`."""
    out, width = torch.empty_like(residual), x.shape[-1]
    block = triton.next_power_of_2(width)
    _join_kernel[(x.numel() // width,)](
        x, residual, after.weight, after.weight, out, out, width, after.eps, after.eps,
        1.0, False, block, num_warps=_warps(block),
    )  # fmt: skip
    return out


def geglu(gate_up: Tensor) -> Tensor:
    """See `text_ops.geglu`."""
    width = gate_up.shape[-1] // 2
    out = gate_up.new_empty(*gate_up.shape[:-1], width)
    block = min(2048, triton.next_power_of_2(width))
    grid = (out.numel() // width, triton.cdiv(width, block))
    _geglu_kernel[grid](gate_up, out, width, block, num_warps=4)
    return out


def gate(x: Tensor, by: Tensor) -> Tensor:
    """See `text_ops.gate`; `by` may be a slice over the layers."""
    out, width = torch.empty_like(x), x.shape[-1]
    block = triton.next_power_of_2(width)
    _gate_kernel[(x.numel() // width,)](
        x, by, out, width, by.stride(-2), block, num_warps=_warps(block)
    )
    return out


def per_layer_inputs(projected: Tensor, scale: float, by: Norm, embedded: Tensor) -> Tensor:
    """See `text_ops.per_layer_inputs`."""
    if by.weight is None:
        raise ValueError("the norm of the per-layer inputs has a scale")
    width, out = by.weight.shape[0], torch.empty_like(projected)
    block = triton.next_power_of_2(width)
    _per_layer_kernel[(out.numel() // width,)](
        projected, embedded.contiguous(), by.weight, out, scale, width, by.eps, block,
        num_warps=_warps(block),
    )  # fmt: skip
    return out.view(*projected.shape[:-1], -1, width)


def place(
    qkv: Tensor,
    layer: LayerWeights,
    cache: tuple[Tensor, Tensor],
    tables: tuple[Tensor, Tensor],
    rows: Rows,
) -> Tensor:
    """See `text_ops.place`."""
    count, tokens, _ = qkv.shape
    keys, values = cache
    query = qkv.new_empty(count, tokens, layer.heads, layer.head_dim)
    key_norm, value_norm = layer.key_norm or layer.query_norm, layer.value_norm or layer.query_norm
    programs = layer.heads + (2 * layer.kv_heads if layer.owns_cache else 0)
    _place_kernel[(count * tokens, programs)](
        qkv, query, keys, values, layer.query_norm.weight, key_norm.weight, *tables,
        rows.slots, rows.starts, rows.counts, tokens, layer.query_norm.eps, key_norm.eps,
        value_norm.eps, keys.shape[2], tables[0].shape[0] - 1, keys.shape[0] - 1,
        keys.stride(0), layer.heads, layer.kv_heads, layer.head_dim, layer.owns_cache,
        num_warps=1,
    )  # fmt: skip
    return query
