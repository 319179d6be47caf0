"""The encoder's small operations in plain torch: the reference and the CPU path.

`audio_kernels` has the same functions as fused GPU kernels.
All reduce and multiply in float32 and round once, when they store.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from agent.engine.gemma.weights import Bounds, Norm


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece belongs.

    Attributes:
        slots: int64[rows], each row's slot of the carried state.
        seen: int64[rows], frames of the clip before the piece; 0 means the state is stale.
        write: Whether to carry the state on.
    """

    slots: Tensor
    seen: Tensor
    write: bool


def rms(x: Tensor, norm: Norm) -> Tensor:
    """RMSNorm in float32; float32 out."""
    wide = x.float()
    out = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + norm.eps)
    return out if norm.weight is None else out * norm.weight.float()


def norm(x: Tensor, by: Norm, limit: float, enter: Bounds) -> Tensor:
    """Normalise `x` bounded to ±limit; bound the result for the map that reads it."""
    return rms(x.clamp(-limit, limit), by).clamp(*enter).to(x.dtype)


def join(
    x: Tensor, leave: Bounds, residual: Tensor, by: Norm, *, limit: float, scale: float
) -> Tensor:
    """`residual + scale * RMSNorm(x)`, `x` being a map's output before its bounds."""
    bounded = x.float().clamp(*leave).clamp(-limit, limit)
    return (residual.float() + scale * rms(bounded, by)).to(residual.dtype)


def add(x: Tensor, leave: Bounds, residual: Tensor) -> Tensor:
    """`residual + x`, `x` being a map's output before its bounds."""
    return (residual.float() + x.float().clamp(*leave)).to(residual.dtype)


def silu(x: Tensor, leave: Bounds, enter: Bounds) -> Tensor:
    """SiLU between two maps, with the bounds of both."""
    return functional.silu(x.float().clamp(*leave)).clamp(*enter).to(x.dtype)


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
    """GLU, causal depthwise convolution over the frames, RMSNorm, SiLU.

    Args:
        x: [rows, frames, 2 * hidden], a map's output before its bounds `leave`.
        state: [slots, kernel - 1, hidden], the convolution's last inputs.
        place: Which slots, and what their clips already had.
        taps: [kernel, hidden].
        by: Norm after the convolution, on values bounded to ±limit.
        limit: See `by`.
        enter: Bounds of the map that reads the result.
    """
    slots, seen = place.slots, place.seen
    gated = functional.glu(x.float().clamp(*leave), dim=-1).to(x.dtype)
    before = state[slots] * (seen > 0)[:, None, None].to(x.dtype)
    frames = torch.cat([before, gated], dim=1)
    if place.write:
        state[slots] = frames[:, gated.shape[1] :]
    kernel = taps.shape[0]
    length = gated.shape[1]
    out = torch.zeros_like(gated, dtype=torch.float32)
    for tap in range(kernel):
        out += frames[:, tap : tap + length].float() * taps[tap].float()
    return functional.silu(rms(out.clamp(-limit, limit), by)).clamp(*enter).to(x.dtype)


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
    """Local attention with relative positions; a frame sees itself and `reach - 1` before it.

    Args:
        qkv: [rows, frames, 3 * hidden], the maps' output before their bounds `leaves`.
        keys, values: [slots, ring, hidden]; frame *n* of a clip lies at `n % ring`.
        place: As in `gated_conv`.
        query_scale: float32[head_dim].
        key_scale: Multiplied onto the keys.
        relative: float32[reach, heads, head_dim], by distance, added to the scaled keys.
        soft_cap: The logits' tanh cap.
        enter: Bounds of the map that reads the result.

    Returns:
        [rows, frames, hidden].
    """
    slots, seen = place.slots, place.seen
    rows, frames, _ = qkv.shape
    reach, heads, size = relative.shape
    ring = keys.shape[1]
    query, key, value = (
        part.float().clamp(*leave) for part, leave in zip(qkv.chunk(3, -1), leaves, strict=True)
    )
    back = torch.arange(-(reach - 1), 0, device=qkv.device)
    past = (seen[:, None] + back) % ring
    all_keys = torch.cat([keys[slots[:, None], past].float(), key], dim=1)
    all_values = torch.cat([values[slots[:, None], past].float(), value], dim=1)
    if place.write:
        here = (seen[:, None] + torch.arange(frames, device=qkv.device)) % ring
        keys[slots[:, None], here] = key.to(keys.dtype)
        values[slots[:, None], here] = value.to(values.dtype)
    # Windows: [rows, frames, reach, heads, size], the nearest frame last.
    shape = (rows, frames, reach, heads, size)
    near_keys = all_keys.unfold(1, reach, 1).transpose(2, 3).reshape(shape)
    near_values = all_values.unfold(1, reach, 1).transpose(2, 3).reshape(shape)
    query = query.view(rows, frames, heads, size) * query_scale
    logits = torch.einsum("rthd,rtnhd->rthn", query, near_keys * key_scale + relative.flip(0))
    logits = torch.tanh(logits / soft_cap) * soft_cap
    steps = torch.arange(frames, device=qkv.device)[:, None]
    key_at = seen[:, None, None] + steps + torch.arange(1 - reach, 1, device=qkv.device)
    weights = logits.masked_fill((key_at < 0)[:, :, None, :], -torch.inf).softmax(-1)
    out = torch.einsum("rthn,rtnhd->rthd", weights, near_values)
    return out.reshape(rows, frames, heads * size).clamp(*enter).to(qkv.dtype)
