"""The encoder's small operations as fused GPU kernels; same functions as `audio_ops`."""

from __future__ import annotations

# Triton kernels are not Python that mypy can follow.
# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
import torch
import triton
import triton.language as tl
from torch import Tensor

from agent.engine.gemma.audio_ops import Place
from agent.engine.gemma.weights import Bounds, Norm

__all__ = ["add", "attend", "gated_conv", "join", "norm", "silu"]


@triton.jit
def _clamp(x, low, high):
    return tl.minimum(tl.maximum(x, low), high)


@triton.jit
def _rms(x, width, eps):
    return x * tl.rsqrt(tl.sum(x * x, 0) / width + eps)


@triton.jit
def _norm_kernel(
    x, weight, out, width, eps, limit, low, high, WEIGHTED: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    real = at < width
    y = tl.load(x + row * width + at, real, 0.0).to(tl.float32)
    y = _rms(_clamp(y, -limit, limit), width, eps)
    if WEIGHTED:
        y = y * tl.load(weight + at, real, 0.0).to(tl.float32)
    tl.store(out + row * width + at, _clamp(y, low, high).to(out.dtype.element_ty), real)


@triton.jit
def _join_kernel(
    x, residual, weight, out, width, eps, limit, low, high, scale,
    NORM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    real = at < width
    y = _clamp(tl.load(x + row * width + at, real, 0.0).to(tl.float32), low, high)
    if NORM:
        y = _rms(_clamp(y, -limit, limit), width, eps)
        y = y * tl.load(weight + at, real, 0.0).to(tl.float32) * scale
    y = tl.load(residual + row * width + at, real, 0.0).to(tl.float32) + y
    tl.store(out + row * width + at, y.to(out.dtype.element_ty), real)


@triton.jit
def _silu_kernel(x, out, count, low, high, next_low, next_high, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = at < count
    y = _clamp(tl.load(x + at, real, 0.0).to(tl.float32), low, high)
    y = _clamp(y * tl.sigmoid(y), next_low, next_high)
    tl.store(out + at, y.to(out.dtype.element_ty), real)


@triton.jit
def _glu(x, base, at, real, width, low, high, kind):
    a = _clamp(tl.load(x + base + at, real, 0.0).to(tl.float32), low, high)
    b = _clamp(tl.load(x + base + width + at, real, 0.0).to(tl.float32), low, high)
    # Rounded as it is when it is carried to the next piece.
    return (a * tl.sigmoid(b)).to(kind).to(tl.float32)


@triton.jit
def _conv_kernel(
    x, state, taps, weight, out, slots, seen, frames, width, eps, limit, low, high,
    next_low, next_high, KERNEL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    frame = tl.program_id(1)
    slot = tl.load(slots + row)
    fresh = tl.load(seen + row) == 0
    at = tl.arange(0, BLOCK)
    real = at < width
    kind: tl.constexpr = out.dtype.element_ty
    acc = tl.zeros([BLOCK], tl.float32)
    for tap in range(KERNEL):
        source = frame - (KERNEL - 1) + tap
        if source >= 0:
            base = (row * frames + source) * 2 * width
            y = _glu(x, base, at, real, width, low, high, kind)
        else:
            held = state + (slot * (KERNEL - 1) + (KERNEL - 1) + source) * width
            y = tl.load(held + at, real, 0.0).to(tl.float32)
            y = tl.where(fresh, 0.0, y)
        acc += y * tl.load(taps + tap * width + at, real, 0.0).to(tl.float32)
    y = _rms(_clamp(acc, -limit, limit), width, eps)
    y = y * tl.load(weight + at, real, 0.0).to(tl.float32)
    y = _clamp(y * tl.sigmoid(y), next_low, next_high)
    tl.store(out + (row * frames + frame) * width + at, y.to(kind), real)


@triton.jit
def _conv_carry_kernel(
    x, state, slots, seen, frames, width, low, high, KERNEL: tl.constexpr, BLOCK: tl.constexpr
):
    # Oldest first, and each place is read (by a piece shorter than the kernel) before it is
    # written, by the same program.
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + row)
    fresh = tl.load(seen + row) == 0
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = at < width
    kind: tl.constexpr = state.dtype.element_ty
    for place in range(KERNEL - 1):
        source = frames - (KERNEL - 1) + place
        target = state + (slot * (KERNEL - 1) + place) * width
        if source >= 0:
            base = (row * frames + source) * 2 * width
            y = _glu(x, base, at, real, width, low, high, kind)
        else:
            held = state + (slot * (KERNEL - 1) + place + frames) * width
            y = tl.load(held + at, real, 0.0).to(tl.float32)
            y = tl.where(fresh, 0.0, y)
        tl.store(target + at, y.to(kind), real)


@triton.jit
def _attend_kernel(
    qkv, keys, values, out, query_scale, relative, slots, seen, ring, key_scale, soft_cap,
    q_low, q_high, k_low, k_high, v_low, v_high, low, high,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr, FRAMES: tl.constexpr,
    BLOCK_T: tl.constexpr, REACH: tl.constexpr, WRITE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    slot = tl.load(slots + row)
    before = tl.load(seen + row)
    hidden: tl.constexpr = HEADS * WIDTH
    t = tl.arange(0, BLOCK_T)
    d = tl.arange(0, BLOCK_D)
    inside = (t < FRAMES)[:, None] & (d < WIDTH)[None, :]
    column = head * WIDTH + d[None, :]
    line = (row * FRAMES + t)[:, None] * (3 * hidden) + column
    q = _clamp(tl.load(qkv + line, inside, 0.0).to(tl.float32), q_low, q_high)
    q = q * tl.load(query_scale + d, d < WIDTH, 0.0)[None, :]
    top = tl.full([BLOCK_T], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_T], tl.float32)
    acc = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    held = slot * ring * hidden + column
    for back in range(REACH):
        source = t - back
        new = inside & (source >= 0)[:, None]
        old = inside & (source < 0)[:, None] & (before + source >= 0)[:, None]
        fresh = (row * FRAMES + source)[:, None] * (3 * hidden) + column
        cell = held + ((before + source + ring) % ring)[:, None] * hidden
        k = _clamp(tl.load(qkv + fresh + hidden, new, 0.0).to(tl.float32), k_low, k_high)
        v = _clamp(tl.load(qkv + fresh + 2 * hidden, new, 0.0).to(tl.float32), v_low, v_high)
        k = tl.where(new, k, tl.load(keys + cell, old, 0.0).to(tl.float32))
        v = tl.where(new, v, tl.load(values + cell, old, 0.0).to(tl.float32))
        far = tl.load(relative + back * hidden + head * WIDTH + d, d < WIDTH, 0.0)
        logit = tl.sum(q * (k * key_scale + far[None, :]), 1) / soft_cap
        logit = (2.0 * tl.sigmoid(2.0 * logit) - 1.0) * soft_cap
        logit = tl.where(before + source >= 0, logit, float("-inf"))
        # The frame itself comes first and always counts, so `peak` is finite from then on.
        peak = tl.maximum(top, logit)
        fade = tl.exp(top - peak)
        p = tl.exp(logit - peak)
        total = total * fade + p
        acc = acc * fade[:, None] + p[:, None] * v
        top = peak
    y = _clamp(acc / total[:, None], low, high)
    tl.store(
        out + (row * FRAMES + t)[:, None] * hidden + column, y.to(out.dtype.element_ty), inside
    )
    if WRITE:
        cell = held + ((before + t) % ring)[:, None] * hidden
        k = _clamp(tl.load(qkv + line + hidden, inside, 0.0).to(tl.float32), k_low, k_high)
        v = _clamp(tl.load(qkv + line + 2 * hidden, inside, 0.0).to(tl.float32), v_low, v_high)
        tl.store(keys + cell, k.to(keys.dtype.element_ty), inside)
        tl.store(values + cell, v.to(values.dtype.element_ty), inside)


def _warps(block: int) -> int:
    return max(1, min(8, block // 256))


def norm(x: Tensor, by: Norm, limit: float, enter: Bounds) -> Tensor:
    """See `audio_ops.norm`."""
    width, out = x.shape[-1], torch.empty_like(x)
    block = triton.next_power_of_2(width)
    _norm_kernel[(x.numel() // width,)](
        x, x if by.weight is None else by.weight, out, width, by.eps, limit, *enter,
        by.weight is not None, block, num_warps=_warps(block),
    )  # fmt: skip
    return out


def join(
    x: Tensor, leave: Bounds, residual: Tensor, by: Norm, *, limit: float, scale: float
) -> Tensor:
    """See `audio_ops.join`."""
    width, out = x.shape[-1], torch.empty_like(residual)
    block = triton.next_power_of_2(width)
    _join_kernel[(x.numel() // width,)](
        x, residual, by.weight, out, width, by.eps, limit, *leave, scale, True, block,
        num_warps=_warps(block),
    )  # fmt: skip
    return out


def add(x: Tensor, leave: Bounds, residual: Tensor) -> Tensor:
    """See `audio_ops.add`."""
    width, out = x.shape[-1], torch.empty_like(residual)
    block = triton.next_power_of_2(width)
    _join_kernel[(x.numel() // width,)](
        x, residual, x, out, width, 0.0, 0.0, *leave, 1.0, False, block, num_warps=_warps(block)
    )
    return out


def silu(x: Tensor, leave: Bounds, enter: Bounds) -> Tensor:
    """See `audio_ops.silu`."""
    out = torch.empty_like(x)
    _silu_kernel[(triton.cdiv(x.numel(), 1024),)](x, out, x.numel(), *leave, *enter, 1024)
    return out


def gated_conv(
    x: Tensor,
    leave: Bounds,
    state: Tensor,
    place: Place,
    *,
    taps: Tensor,
    by: Norm,
    limit: float,
    enter: Bounds,
) -> Tensor:
    """See `audio_ops.gated_conv`."""
    rows, frames, _ = x.shape
    kernel, width = taps.shape
    out = x.new_empty(rows, frames, width)
    block = triton.next_power_of_2(width)
    _conv_kernel[(rows, frames)](
        x, state, taps, by.weight, out, place.slots, place.seen, frames, width, by.eps, limit,
        *leave, *enter, kernel, block, num_warps=_warps(block),
    )  # fmt: skip
    if place.write:
        block = min(256, block)
        _conv_carry_kernel[(rows, triton.cdiv(width, block))](
            x, state, place.slots, place.seen, frames, width, *leave, kernel, block, num_warps=1
        )
    return out


def attend(
    qkv: Tensor,
    leaves: tuple[Bounds, ...],
    keys: Tensor,
    values: Tensor,
    *,
    place: Place,
    query_scale: Tensor,
    key_scale: float,
    relative: Tensor,
    soft_cap: float,
    enter: Bounds,
) -> Tensor:
    """See `audio_ops.attend`."""
    rows, frames, _ = qkv.shape
    reach, heads, width = relative.shape
    out = qkv.new_empty(rows, frames, heads * width)
    query, key, value = leaves
    _attend_kernel[(rows, heads)](
        qkv, keys, values, out, query_scale, relative, place.slots, place.seen, keys.shape[1],
        key_scale, soft_cap, *query, *key, *value, *enter, heads, width,
        triton.next_power_of_2(width), frames, triton.next_power_of_2(frames), reach, place.write,
        num_warps=4,
    )  # fmt: skip
    return out
