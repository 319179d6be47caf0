"""Weights of a transformers Gemma 4 model, regrouped for the steps that use them.

Matrices that read the same input are joined into one. Where a matrix is not joined, the
model's own tensor is used and nothing is copied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Norm:
    """RMSNorm: `weight` is None for the kind without a learned scale."""

    weight: Tensor | None
    eps: float

    @classmethod
    def of(cls, module: Any) -> Norm:
        """Of a `Gemma4RMSNorm`."""
        return cls(module.weight.detach() if module.with_scale else None, float(module.eps))


@dataclass(frozen=True, slots=True)
class Clipped:
    """Linear maps of one input, each with bounds on its input and output, joined if they may.

    Attributes:
        weight: [sum of out, in], or several when the bounds on the input differ.
        inputs: Bounds on the input, one for each weight.
        outputs: Bounds on each part's output.
    """

    weights: tuple[Tensor, ...]
    inputs: tuple[Bounds, ...]
    outputs: tuple[Bounds, ...]

    @classmethod
    def of(cls, *modules: Any) -> Clipped:
        """Of `Gemma4ClippableLinear`s that read the same input."""
        weights = tuple(module.linear.weight.detach() for module in modules)
        inputs = tuple(_bounds(module, "input") for module in modules)
        outputs = tuple(_bounds(module, "output") for module in modules)
        if len(weights) > 1 and len(set(inputs)) == 1:
            return cls((torch.cat(weights),), inputs[:1], outputs)
        return cls(weights, inputs, outputs)

    def apply(self, x: Tensor) -> Tensor:
        """Outputs side by side, **not** yet bounded. `x` is bounded already if joined."""
        if len(self.weights) == 1:
            return functional.linear(x, self.weights[0])
        parts = [
            functional.linear(x.clamp(*bounds), weight)
            for weight, bounds in zip(self.weights, self.inputs, strict=True)
        ]
        return torch.cat(parts, dim=-1)

    @property
    def enter(self) -> Bounds:
        """Bounds that whoever makes the input puts on it."""
        return self.inputs[0] if len(self.weights) == 1 else UNBOUNDED

    @property
    def leave(self) -> Bounds:
        """Bounds on the output of a single map."""
        return self.outputs[0]


def _bounds(module: Any, side: str) -> Bounds:
    if not module.use_clipped_linears:
        return UNBOUNDED
    return float(getattr(module, f"{side}_min")), float(getattr(module, f"{side}_max"))


@dataclass(frozen=True, slots=True)
class FeedForwardWeights:
    """One half-step feed-forward of a conformer layer."""

    before: Norm
    up: Clipped
    down: Clipped
    after: Norm
    scale: float

    @classmethod
    def of(cls, module: Any) -> FeedForwardWeights:
        """Of a `Gemma4AudioFeedForward`."""
        return cls(
            Norm.of(module.pre_layer_norm),
            Clipped.of(module.ffw_layer_1),
            Clipped.of(module.ffw_layer_2),
            Norm.of(module.post_layer_norm),
            float(module.post_layer_scale),
        )


@dataclass(frozen=True, slots=True)
class ConformerWeights:
    """One layer of the audio encoder.

    Attributes:
        query_scale: float32[head_dim], everything a query is multiplied with.
        relative: float32[distances, heads, head_dim]: what is added to a (scaled) key that
            lies that many frames back.
        conv: [kernel, hidden], the causal depthwise convolution, oldest tap first.
    """

    first: FeedForwardWeights
    attention_before: Norm
    qkv: Clipped
    query_scale: Tensor
    key_scale: float
    relative: Tensor
    post: Clipped
    attention_after: Norm
    conv_before: Norm
    conv_start: Clipped
    conv: Tensor
    conv_norm: Norm
    conv_end: Clipped
    second: FeedForwardWeights
    out: Norm

    @classmethod
    def of(cls, layer: Any, positions: Tensor, reach: int) -> ConformerWeights:
        """Of a `Gemma4AudioLayer`.

        Args:
            layer: The module.
            positions: [1 or none, rows, hidden], the encoder's position embeddings, which
                run from the farthest back to the present.
            reach: How many frames a query sees, its own included.
        """
        attention, conv = layer.self_attn, layer.lconv1d
        heads, size = attention.num_heads, attention.head_dim
        table = attention.relative_k_proj(positions).view(-1, heads, size).float()
        # Row p of the shifted product belongs to distance `max_past_horizon - p`.
        rows = attention.max_past_horizon - torch.arange(reach, device=table.device)
        return cls(
            first=FeedForwardWeights.of(layer.feed_forward1),
            attention_before=Norm.of(layer.norm_pre_attn),
            qkv=Clipped.of(attention.q_proj, attention.k_proj, attention.v_proj),
            query_scale=(
                attention.q_scale * functional.softplus(attention.per_dim_scale.detach())
            ).float(),
            key_scale=float(attention.k_scale),
            relative=table[rows].detach().contiguous(),
            post=Clipped.of(attention.post),
            attention_after=Norm.of(layer.norm_post_attn),
            conv_before=Norm.of(conv.pre_layer_norm),
            conv_start=Clipped.of(conv.linear_start),
            conv=conv.depthwise_conv1d.weight.detach()[:, 0].t().contiguous(),
            conv_norm=Norm.of(conv.conv_norm),
            conv_end=Clipped.of(conv.linear_end),
            second=FeedForwardWeights.of(layer.feed_forward2),
            out=Norm.of(layer.norm_out),
        )


@dataclass(frozen=True, slots=True)
class EncoderWeights:
    """The audio encoder and the projection of its output into the text model.

    Attributes:
        conv0, conv1: [taps, channels]: 3 by 3 by in flattened, time first.
        norm0, norm1: LayerNorm scales over the channels, and their epsilon.
    """

    conv0: Tensor
    norm0: Tensor
    conv1: Tensor
    norm1: Tensor
    norm_eps: float
    entry: Tensor
    layers: tuple[ConformerWeights, ...]
    out: Tensor
    out_bias: Tensor
    embed_norm: Norm
    embed: Tensor
    heads: int
    reach: int
    soft_cap: float
    limit: float

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any) -> EncoderWeights:
        """Of a `Gemma4ForConditionalGeneration`."""
        tower, embed = model.model.audio_tower, model.model.embed_audio
        config, sub = tower.config, tower.subsample_conv_projection
        dtype = sub.input_proj_linear.weight.dtype
        reach = config.attention_context_left - 1
        positions = tower.rel_pos_enc(sub.input_proj_linear.weight)
        return cls(
            conv0=_taps(sub.layer0.conv.weight),
            norm0=sub.layer0.norm.weight.detach(),
            conv1=_taps(sub.layer1.conv.weight),
            norm1=sub.layer1.norm.weight.detach(),
            norm_eps=float(sub.layer0.norm.eps),
            entry=sub.input_proj_linear.weight.detach(),
            layers=tuple(ConformerWeights.of(layer, positions, reach) for layer in tower.layers),
            out=tower.output_proj.weight.detach(),
            out_bias=tower.output_proj.bias.detach(),
            embed_norm=Norm.of(embed.embedding_pre_projection_norm),
            embed=embed.embedding_projection.weight.detach(),
            heads=config.num_attention_heads,
            reach=reach,
            soft_cap=float(config.attention_logit_cap),
            limit=min(float(config.gradient_clipping), torch.finfo(dtype).max),
        )


def _taps(weight: Tensor) -> Tensor:
    """[out, in, time, frequency] to [time * frequency * in, out]."""
    return weight.detach().permute(2, 3, 1, 0).reshape(-1, weight.shape[0]).contiguous()
