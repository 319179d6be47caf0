"""The batched steps of the text model over many rows: listen, close, decode.

Every row is a slot of the cache at its own length. Audio and all but the last token of a
prompt run only through the layers that own a cache; the layers after them write nothing
that later tokens read, so only the token whose logits are wanted runs through them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

from agent.engine.gemma import text_ops
from agent.engine.gemma.cache import Cache, rotary_tables
from agent.engine.gemma.text_ops import Rows
from agent.engine.gemma.text_weights import SLIDING, LayerWeights, TextWeights
from agent.engine.gemma.weights import Norm


@dataclass(frozen=True, slots=True)
class Stream:
    """What flows from layer to layer.

    Attributes:
        residual: [rows, tokens, hidden].
        normed: The same, normalised for the layer that comes.
    """

    residual: Tensor
    normed: Tensor


@dataclass(frozen=True)
class Decoder:
    """The text model's steps.

    Attributes:
        weights: Of the checkpoint.
        cache: Written in place.
        ops: `text_ops` or `text_kernels`.
        single: `run_single` where one token of one row has a path of its own, else None.
    """

    weights: TextWeights
    cache: Cache
    ops: ModuleType = text_ops
    single: Callable[..., Tensor] | None = None
    tables: dict[str, tuple[Tensor, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        tables = rotary_tables(self.weights, self.cache.plan.slot_tokens)
        object.__setattr__(self, "tables", tables)

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of text tokens; `ids` int64 of any shape."""
        return self.weights.embed[ids] * self.weights.embed_scale

    def listen(self, embeds: Tensor, ids: Tensor, rows: Rows) -> None:
        """Write tokens into the cache; nobody wants their logits.

        Args:
            embeds: [rows, tokens, hidden]: soft tokens, or `embed(ids)`.
            ids: int64[rows, tokens]: text tokens, and the pad token for soft ones.
            rows: Where they belong.
        """
        owning = self.weights.owning
        self._layers(self._enter(embeds), self._per_layer(embeds, ids, 0, owning), rows, 0)

    def predict(self, embeds: Tensor, ids: Tensor, rows: Rows) -> Tensor:
        """Write tokens into the cache and predict what follows each row's last real one.

        Args:
            embeds, ids, rows: As for `listen`.

        Returns:
            float32[rows, vocabulary], logits.
        """
        ops, owning, total = self.ops, self.weights.owning, len(self.weights.layers)
        if embeds.shape[1] == 1:
            per_layer = self._per_layer(embeds, ids, 0, total)
            return self._finish(embeds, per_layer, rows, 0)
        per_layer = self._per_layer(embeds, ids, 0, owning)
        stream = self._layers(self._enter(embeds), per_layer, rows, 0)
        # What is left reads the cache and writes nothing: only the last token goes through.
        last = ops.pick_last(ids[..., None], rows)[..., 0]
        per_layer = self._per_layer(ops.pick_last(embeds, rows), last, owning, total)
        residual = ops.pick_last(stream.residual, rows)
        return self._finish(residual, per_layer, rows.last(), owning)

    def decode(self, ids: Tensor, rows: Rows) -> Tensor:
        """One token a row in, the logits of what follows out.

        Args:
            ids: int64[rows].
            rows: Where they belong.

        Returns:
            float32[rows, vocabulary].
        """
        return self.predict(self.embed(ids)[:, None], ids[:, None], rows)

    def _enter(self, residual: Tensor, first: int = 0) -> Stream:
        by = (
            self.weights.layers[first].before_attention if first < self.depth else self.weights.norm
        )
        return Stream(residual, self.ops.norm(residual, by))

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.weights.layers)

    def _finish(self, residual: Tensor, per_layer: Tensor, rows: Rows, first: int) -> Tensor:
        """One token a row through the layers from `first` on, and the head."""
        if self.single is not None and residual.shape[0] == 1:
            logits = self.single(
                self.weights, self.cache, self.tables, residual[0, 0], per_layer[0, 0], rows, first
            )
            return logits[None]
        stream = self._layers(self._enter(residual, first), per_layer, rows, first)
        return self._logits(stream.normed[:, 0])

    def _per_layer(self, embeds: Tensor, ids: Tensor, first: int, end: int) -> Tensor:
        """Inputs of their own for layers `first` to `end`: [rows, tokens, layers, p]."""
        weights = self.weights
        part = slice(first * weights.per_layer, end * weights.per_layer)
        projected = functional.linear(embeds, weights.project[part])
        embedded = weights.embed_per_layer[:, part][ids] * weights.per_layer_scale
        out: Tensor = self.ops.per_layer_inputs(
            projected, weights.project_scale, weights.project_norm, embedded
        )
        return out

    def _layers(self, stream: Stream, per_layer: Tensor, rows: Rows, first: int) -> Stream:
        """Run the layers from `first` on, as many as there are inputs for."""
        layers = self.weights.layers
        for place in range(per_layer.shape[2]):
            index = first + place
            after = layers[index + 1].before_attention if index + 1 < len(layers) else None
            stream = self._layer(
                layers[index], stream, per_layer[:, :, place], rows, after or self.weights.norm
            )
        return stream

    def _layer(
        self, layer: LayerWeights, stream: Stream, own: Tensor, rows: Rows, following: Norm
    ) -> Stream:
        ops = self.ops
        cache = self.cache.layer(layer.kind, layer.cache)
        window = self.weights.window if layer.kind == SLIDING else None
        query = ops.place(
            functional.linear(stream.normed, layer.qkv), layer, cache, self.tables[layer.kind], rows
        )
        y = functional.linear(ops.attend(query, cache, rows, window), layer.out)
        h, y = ops.join_norm(y, stream.residual, layer.after_attention, layer.before_mlp, 1.0)
        y = functional.linear(ops.geglu(functional.linear(y, layer.gate_up)), layer.down)
        h = ops.join(y, h, layer.after_mlp)
        y = ops.gate(functional.linear(h, layer.gate_per_layer), own)
        y = functional.linear(y, layer.project_per_layer)
        return Stream(*ops.join_norm(y, h, layer.after_per_layer, following, layer.scalar))

    def _logits(self, normed: Tensor) -> Tensor:
        logits = functional.linear(normed, self.weights.head).float()
        cap = self.weights.soft_cap
        return logits if cap is None else torch.tanh(logits / cap) * cap
