"""One token of one row: every matrix product is a matrix-vector product, bound by memory.

The small operations before and after a product are done inside it: the norm, the residual
sum and the gates cost no launch and no trip to memory of their own. Each kernel asks for its
weights before it waits for the kernel ahead of it (programmatic dependent launch), so the
start-up of one hides behind the end of the other.
"""

from __future__ import annotations

# Triton kernels are not Python that mypy can follow.
# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import cuda

from agent.engine.gemma.text_kernels import _gelu
from agent.engine.gemma.weights import Norm

PLAIN, NORMED, JOINED, JOINED_NORMED = range(4)
STORED, GEGLU, GATED, CAPPED = range(4)


@triton.jit
def _vector_kernel(
    weight, x, residual, after, before, by, joined, out, outs, after_eps, before_eps, scale, cap,
    INNER: tl.constexpr, ENTER: tl.constexpr, LEAVE: tl.constexpr, BLOCK_O: tl.constexpr,
    BLOCK_K: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        cuda.gdc_launch_dependents()
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    k = tl.arange(0, BLOCK_K)
    inside = (o < outs)[:, None] & (k < INNER)[None, :]
    cell = o.to(tl.int64)[:, None] * INNER + k[None, :]
    tile = tl.load(weight + cell, inside, 0.0)
    if LEAVE == 1:
        other = weight + outs.to(tl.int64) * INNER
        tile_up = tl.load(other + cell, inside, 0.0)
    if OVERLAP:
        cuda.gdc_wait()
    real = k < INNER
    y = tl.load(x + k, real, 0.0).to(tl.float32)
    if ENTER == 1:
        y = y * tl.rsqrt(tl.sum(y * y, 0) / INNER + before_eps)
        y = y * tl.load(before + k, real, 0.0).to(tl.float32)
    if ENTER >= 2:
        y = y * tl.rsqrt(tl.sum(y * y, 0) / INNER + after_eps)
        y = y * tl.load(after + k, real, 0.0).to(tl.float32)
        y = (tl.load(residual + k, real, 0.0).to(tl.float32) + y) * scale
        if tl.program_id(0) == 0:
            tl.store(joined + k, y.to(joined.dtype.element_ty), real)
        if ENTER == 3:
            y = y * tl.rsqrt(tl.sum(y * y, 0) / INNER + before_eps)
            y = y * tl.load(before + k, real, 0.0).to(tl.float32)
    acc = tile.to(tl.float32) * y[None, :]
    if LEAVE == 1:
        acc_up = tile_up.to(tl.float32) * y[None, :]
    for start in range(BLOCK_K, INNER, BLOCK_K):
        more = start + k
        inside = (o < outs)[:, None] & (more < INNER)[None, :]
        y = tl.load(x + more, more < INNER, 0.0).to(tl.float32)
        acc += tl.load(weight + cell + start, inside, 0.0).to(tl.float32) * y[None, :]
        if LEAVE == 1:
            acc_up += tl.load(other + cell + start, inside, 0.0).to(tl.float32) * y[None, :]
    z = tl.sum(acc, 1)
    if LEAVE == 1:
        z = _gelu(z) * tl.sum(acc_up, 1)
    if LEAVE == 2:
        z = _gelu(z) * tl.load(by + o, o < outs, 0.0).to(tl.float32)
    if LEAVE == 3:
        z = (2.0 * tl.sigmoid(2.0 * z / cap) - 1.0) * cap
    tl.store(out + o, z.to(out.dtype.element_ty), o < outs)


@dataclass(frozen=True, slots=True)
class Pending:
    """A residual sum that the next product will do: `scale * (residual + after(x))`."""

    x: Tensor
    residual: Tensor
    after: Norm
    scale: float


def product(
    weight: Tensor,
    x: Tensor | Pending,
    *,
    before: Norm | None = None,
    by: Tensor | None = None,
    geglu: bool = False,
    cap: float | None = None,
    overlap: bool = True,
) -> tuple[Tensor, Tensor]:
    """A matrix-vector product with what comes before and after it.

    Args:
        weight: [out, in]; with `geglu` [2 * out, in].
        x: The input, [in], or the sum that makes it.
        before: Norm of the input.
        by: `gelu(product) * by`, [out].
        geglu: `gelu(first half) * second half`.
        cap: tanh cap; the result is float32 then.
        overlap: Whether to start before the kernel ahead has ended.

    Returns:
        The product, [out], and the pending sum once it is done ([in]; else `x`).
    """
    outs, inner = weight.shape[0] // (2 if geglu else 1), weight.shape[1]
    leave = GEGLU if geglu else GATED if by is not None else CAPPED if cap is not None else STORED
    out = torch.empty(
        outs, dtype=torch.float32 if cap is not None else weight.dtype, device=weight.device
    )
    after: Norm | None
    if isinstance(x, Pending):
        enter = JOINED_NORMED if before is not None else JOINED
        source, residual, after, scale = x.x, x.residual, x.after, x.scale
        joined = torch.empty_like(residual)
    else:
        enter = NORMED if before is not None else PLAIN
        source, residual, after, scale, joined = x, x, before, 1.0, x
    block_k = triton.next_power_of_2(inner)
    if enter == PLAIN:
        block_k = min(block_k, 2048)
    block_o, warps = _tile(outs, inner, block_k, geglu)
    filler = weight
    _vector_kernel[(triton.cdiv(outs, block_o),)](
        weight, source, residual,
        after.weight if after is not None else filler,
        before.weight if before is not None else filler,
        by if by is not None else filler,
        joined, out, outs,
        after.eps if after is not None else 0.0,
        before.eps if before is not None else 0.0,
        scale, cap or 1.0, inner, enter, leave, block_o, block_k, overlap,
        num_warps=warps, **({"launch_pdl": True} if overlap else {}),
    )  # fmt: skip
    return out, joined


def _tile(outs: int, inner: int, block_k: int, geglu: bool) -> tuple[int, int]:
    """Rows of the weight for one program, and its warps."""
    if inner > block_k:
        # Long rows in several blocks: one row a program, read by many warps, was fastest.
        return 1, 8
    rows = max(1, min(16, 8192 // block_k // (2 if geglu else 1)))
    # Small products: rather more programs than more work in each.
    while rows > 1 and outs // rows < 256:
        rows //= 2
    return rows, 4
