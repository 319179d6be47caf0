"""The decoder's attention on a GPU, over rows of any lengths in one step.

It is split over the keys, with bounds read on the device: its cost follows the tokens a row
has, in the same captured graph, whatever the size of the slot.
"""

from __future__ import annotations

# Triton kernels are not Python that mypy can follow.
# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"
import torch
import triton
import triton.language as tl
from torch import Tensor

from agent.engine.gemma.text_ops import Rows

_SPLIT_TARGET = 264
"""Programs that keep a GPU of 132 multiprocessors busy; more splits than that only add work."""


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
        block_n, blocks, splits, exact, num_warps=8 if block_m > 32 else 4,
        num_stages=1 if exact else 2,
    )  # fmt: skip
    if splits > 1:
        chunk = min(128, width)
        _combine_kernel[(lines, width // chunk)](
            part, part_max, part_sum, out, width, chunk, splits, num_warps=4
        )
    return out
