"""The decoder's small operations as fused GPU kernels; same functions as `text_ops`.

Each reads its inputs once, computes in float32 and rounds once. Attention is split over the
keys, with bounds read on the device: its cost follows the tokens a row has, in the same
captured graph, whatever the size of the slot.
"""

from __future__ import annotations

# Triton kernels are not Python that mypy can follow.
# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
import torch
import triton
import triton.language as tl
from torch import Tensor

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

_SPLIT_TARGET = 264
"""Programs that keep a GPU of 132 multiprocessors busy; more splits than that only add work."""


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


@triton.jit
def _attend_kernel(
    query,
    keys,
    values,
    out,
    part,
    part_max,
    part_sum,
    slots,
    starts,
    counts,
    tokens,
    ring,
    window,
    slot_stride,
    GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCKS: tl.constexpr,
    SPLITS: tl.constexpr,
    EXACT: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) // BLOCKS
    block = tl.program_id(1) % BLOCKS
    split = tl.program_id(2)
    start = tl.load(starts + row)
    count = tl.load(counts + row)
    slot = tl.load(slots + row)
    heads: tl.constexpr = GROUP * KV_HEADS
    # Rows of the product: the query heads of one key head, token by token.
    m = block * BLOCK_M + tl.arange(0, BLOCK_M)
    step = m // GROUP
    line = (row * tokens + step) * heads + head * GROUP + m % GROUP
    d = tl.arange(0, WIDTH)
    exists = step < tokens
    q = tl.load(query + line[:, None] * WIDTH + d[None, :], exists[:, None], 0.0)
    here = start + step
    last = tl.minimum(count, (block * BLOCK_M + BLOCK_M - 1) // GROUP + 1)
    end = start + last
    begin = tl.maximum(0, start + (block * BLOCK_M) // GROUP - window + 1)
    span = tl.cdiv(tl.cdiv(end - begin, SPLITS), BLOCK_N) * BLOCK_N
    low = begin + split * span
    high = tl.minimum(low + span, end)
    acc = tl.zeros([BLOCK_M, WIDTH], tl.float32)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    base = slot * slot_stride + head * ring * WIDTH
    for n in range(low, high, BLOCK_N):
        position = n + tl.arange(0, BLOCK_N)
        inside = position < high
        cell = (position % ring)[:, None] * WIDTH + d[None, :]
        k = tl.load(keys + base + cell, inside[:, None], 0.0)
        v = tl.load(values + base + cell, inside[:, None], 0.0)
        if EXACT:
            logits = tl.dot(q, tl.trans(k), input_precision="ieee")
        else:
            logits = tl.dot(q, tl.trans(k))
        seen = (position[None, :] <= here[:, None]) & (position[None, :] > here[:, None] - window)
        logits = tl.where(seen & inside[None, :], logits, float("-inf"))
        peak = tl.maximum(top, tl.max(logits, 1))
        # A line that has seen nothing yet must not make NaN of -inf minus -inf.
        safe = tl.where(peak == float("-inf"), 0.0, peak)
        p = tl.exp(logits - safe[:, None])
        fade = tl.exp(top - safe)
        total = total * fade + tl.sum(p, 1)
        acc = acc * fade[:, None]
        if EXACT:
            acc = tl.dot(p.to(v.dtype), v, acc, input_precision="ieee")
        else:
            acc = tl.dot(p.to(v.dtype), v, acc)
        top = peak
    if SPLITS == 1:
        y = acc / tl.where(total > 0.0, total, 1.0)[:, None]
        place = out + line[:, None] * WIDTH + d[None, :]
        tl.store(place, y.to(out.dtype.element_ty), exists[:, None])
    else:
        where = line * SPLITS + split
        used = high > low
        tl.store(part + where[:, None] * WIDTH + d[None, :], acc, exists[:, None] & used)
        tl.store(part_max + where, top, exists)
        tl.store(part_sum + where, total, exists)


@triton.jit
def _combine_kernel(
    part,
    part_max,
    part_sum,
    out,
    WIDTH: tl.constexpr,
    CHUNK: tl.constexpr,
    SPLITS: tl.constexpr,
):
    line = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * CHUNK + tl.arange(0, CHUNK)
    split = tl.arange(0, SPLITS)
    top = tl.load(part_max + line * SPLITS + split)
    total = tl.load(part_sum + line * SPLITS + split)
    used = total > 0.0
    peak = tl.max(tl.where(used, top, float("-inf")), 0)
    share = tl.where(used, tl.exp(top - peak), 0.0)
    whole = tl.sum(share * total, 0)
    cell = (line * SPLITS + split)[:, None] * WIDTH + d[None, :]
    acc = tl.sum(tl.load(part + cell, used[:, None], 0.0) * share[:, None], 0)
    y = acc / tl.where(whole > 0.0, whole, 1.0)
    tl.store(out + line * WIDTH + d, y.to(out.dtype.element_ty))


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


def attend(query: Tensor, cache: tuple[Tensor, Tensor], rows: Rows, window: int | None) -> Tensor:
    """See `text_ops.attend`."""
    count, tokens, heads, width = query.shape
    keys, values = cache
    kv_heads, ring = keys.shape[1], keys.shape[2]
    group = heads // kv_heads
    exact = query.dtype == torch.float32
    # float32 is for checking; its tiles must fit the same shared memory.
    block_m = max(16, min(16 if exact else 64, triton.next_power_of_2(tokens * group)))
    blocks = triton.cdiv(tokens * group, block_m)
    block_n = 16 if exact else 32 if width > 256 else 64
    # A power of two, and no more than there are blocks of keys to share out.
    most = 64 if window is None else max(1, window // block_n)
    wanted = max(1, _SPLIT_TARGET // (count * kv_heads * blocks))
    splits = min(most, 1 << (wanted.bit_length() - 1))
    out = query.new_empty(count, tokens, heads * width)
    lines = count * tokens * heads
    size = lines * splits if splits > 1 else 1
    part = torch.empty(size * width if splits > 1 else 1, dtype=torch.float32, device=query.device)
    part_max, part_sum = torch.empty(2, size, dtype=torch.float32, device=query.device)
    _attend_kernel[(count, kv_heads * blocks, splits)](
        query, keys, values, out, part, part_max, part_sum, rows.slots, rows.starts, rows.counts,
        tokens, ring, window or 1 << 30, keys.stride(0), group, kv_heads, width, block_m,
        block_n, blocks, splits, exact, num_warps=8 if block_m > 32 else 4, num_stages=1 if exact else 2,
    )  # fmt: skip
    if splits > 1:
        chunk = min(128, width)
        _combine_kernel[(lines, width // chunk)](
            part, part_max, part_sum, out, width, chunk, splits, num_warps=4
        )
    return out
