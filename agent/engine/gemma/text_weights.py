"""Weights of the text model, regrouped for the steps that use them.

Matrices that read the same input are joined, and the model's own parameters become views
of the joined ones: nothing is held twice and the model itself still works.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agent.engine.gemma.weights import Norm

SLIDING = "sliding_attention"
FULL = "full_attention"


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer.

    Attributes:
        kind: `SLIDING` or `FULL`.
        owns_cache: Whether it makes keys and values; otherwise it reads those of the last
            layer of its kind that does.
        cache: Index among the layers of its kind that own a cache.
        heads, kv_heads, head_dim: Shape of the attention.
        qkv: [(heads + 2 kv_heads) * head_dim, hidden]; queries only without a cache.
        gate_up: [2 * intermediate, hidden].
        gate_per_layer, project_per_layer: [p, hidden] and [hidden, p].
        scalar: What the layer's output is multiplied with.
    """

    kind: str
    owns_cache: bool
    cache: int
    heads: int
    kv_heads: int
    head_dim: int
    before_attention: Norm
    qkv: Tensor
    query_norm: Norm
    key_norm: Norm | None
    value_norm: Norm | None
    out: Tensor
    after_attention: Norm
    before_mlp: Norm
    gate_up: Tensor
    down: Tensor
    after_mlp: Norm
    gate_per_layer: Tensor
    project_per_layer: Tensor
    after_per_layer: Norm
    scalar: float

    @classmethod
    def of(cls, layer: Any, cache: int) -> LayerWeights:
        """Of a `Gemma4TextDecoderLayer`."""
        attention, mlp = layer.self_attn, layer.mlp
        owns = not attention.is_kv_shared_layer
        qkv = [attention.q_proj]
        if owns:
            qkv += [attention.k_proj, attention.v_proj]
        heads = attention.q_proj.weight.shape[0] // attention.head_dim
        return cls(
            kind=attention.layer_type,
            owns_cache=owns,
            cache=cache,
            heads=heads,
            kv_heads=heads // attention.num_key_value_groups,
            head_dim=attention.head_dim,
            before_attention=Norm.of(layer.input_layernorm),
            qkv=join_in_place(*qkv),
            query_norm=Norm.of(attention.q_norm),
            key_norm=Norm.of(attention.k_norm) if owns else None,
            value_norm=Norm.of(attention.v_norm) if owns else None,
            out=attention.o_proj.weight.detach(),
            after_attention=Norm.of(layer.post_attention_layernorm),
            before_mlp=Norm.of(layer.pre_feedforward_layernorm),
            gate_up=join_in_place(mlp.gate_proj, mlp.up_proj),
            down=mlp.down_proj.weight.detach(),
            after_mlp=Norm.of(layer.post_feedforward_layernorm),
            gate_per_layer=layer.per_layer_input_gate.weight.detach(),
            project_per_layer=layer.per_layer_projection.weight.detach(),
            after_per_layer=Norm.of(layer.post_per_layer_input_norm),
            scalar=float(layer.layer_scalar),
        )


@dataclass(frozen=True, slots=True)
class TextWeights:
    """The text model.

    Attributes:
        owning: How many of the layers, from the first on, own a cache.
        window: A sliding layer's token sees itself and the `window - 1` before it.
        embed, embed_per_layer: Tables, [vocabulary, hidden] and [vocabulary, layers * p].
        embed_scale, per_layer_scale: What looked-up rows are multiplied with, already rounded
            to the weights' dtype as the model does.
        project: [layers * p, hidden], from the embedding to every layer's own input.
        project_scale: Multiplied onto its result.
        head: [vocabulary, hidden].
        soft_cap: The logits' tanh cap, or None.
        pad: The token whose per-layer embedding stands in for audio.
        frequencies: Per kind float32[head_dim / 2], and the factor on sine and cosine.
    """

    layers: tuple[LayerWeights, ...]
    owning: int
    window: int
    embed: Tensor
    embed_scale: float
    embed_per_layer: Tensor
    per_layer_scale: float
    project: Tensor
    project_scale: float
    project_norm: Norm
    norm: Norm
    head: Tensor
    soft_cap: float | None
    pad: int
    frequencies: dict[str, tuple[Tensor, float]]

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any) -> TextWeights:
        """Of a `Gemma4ForConditionalGeneration`; its parameters become views of joined ones."""
        text = model.model.language_model
        config, dtype = text.config, text.embed_tokens.weight.dtype
        counts = {SLIDING: 0, FULL: 0}
        layers = []
        for layer in text.layers:
            kind, owns = layer.self_attn.layer_type, not layer.self_attn.is_kv_shared_layer
            layers.append(LayerWeights.of(layer, counts[kind] if owns else counts[kind] - 1))
            counts[kind] += owns
        rotary = text.rotary_emb
        return cls(
            layers=tuple(layers),
            owning=sum(counts.values()),
            window=config.sliding_window,
            embed=text.embed_tokens.weight.detach(),
            embed_scale=_rounded(text.embed_tokens.scalar_embed_scale, dtype),
            embed_per_layer=text.embed_tokens_per_layer.weight.detach(),
            per_layer_scale=_rounded(text.embed_tokens_per_layer.scalar_embed_scale, dtype),
            project=text.per_layer_model_projection.weight.detach(),
            project_scale=float(text.per_layer_model_projection_scale),
            project_norm=Norm.of(text.per_layer_projection_norm),
            norm=Norm.of(text.norm),
            head=model.lm_head.weight.detach(),
            soft_cap=config.final_logit_softcapping,
            pad=config.pad_token_id,
            frequencies={
                kind: (
                    getattr(rotary, f"{kind}_inv_freq").float(),
                    float(getattr(rotary, f"{kind}_attention_scaling")),
                )
                for kind in counts
            },
        )

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return int(self.embed.shape[1])

    @property
    def per_layer(self) -> int:
        """Width of a layer's own input."""
        return int(self.layers[0].gate_per_layer.shape[0])


def join_in_place(*linears: Any) -> Tensor:
    """Join the weights of linears below each other; each becomes a view of the joined one."""
    if len(linears) == 1:
        weight: Tensor = linears[0].weight.detach()
        return weight
    joined = torch.cat([linear.weight.detach() for linear in linears])
    at = 0
    for linear in linears:
        rows = linear.weight.shape[0]
        linear.weight.data = joined[at : at + rows]
        at += rows
    return joined


def _rounded(value: float, dtype: torch.dtype) -> float:
    return float(torch.tensor(value, dtype=dtype))
