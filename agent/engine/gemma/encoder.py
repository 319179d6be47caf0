"""The audio encoder piece by piece, for many speakers at once.

Equal to `get_audio_features` over a whole clip: every part looks back only, so each carries
what it needs of the past: the last mel frame, the last frame after the first convolution,
and per layer the keys and values of the last frames and the inputs of its convolution.
Shapes are static, [rows, piece], whatever part of a piece is real.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

from agent.engine.gemma import audio_ops
from agent.engine.gemma.weights import UNBOUNDED, EncoderWeights, FeedForwardWeights

FRAMES_PER_TOKEN = 4
"""Two convolutions of stride 2."""


def tokens_of(frames: int) -> int:
    """How many soft tokens a clip of that many mel frames gives."""
    return -(-frames // FRAMES_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class EncoderState:
    """What the encoder carries between pieces, one slot for each speaker.

    A slot is never cleared: a row that has seen nothing of its clip reads zeros instead.

    Attributes:
        mel: [slots, bins], the last mel frame.
        subsampled: [slots, bins / 2, channels], the last frame after the first convolution.
        keys, values: [layers, slots, ring, hidden].
        conv: [layers, slots, kernel - 1, hidden].
    """

    mel: Tensor
    subsampled: Tensor
    keys: Tensor
    values: Tensor
    conv: Tensor

    @classmethod
    def empty(cls, weights: EncoderWeights, slots: int, piece_tokens: int) -> EncoderState:
        """For so many slots and pieces of at most so many tokens."""
        like, layer = weights.entry, weights.layers[0]
        hidden, channels = like.shape[0], weights.norm0.shape[0]
        ring = 1 << (weights.reach - 1 + piece_tokens - 1).bit_length()
        count = len(weights.layers)
        return cls(
            mel=like.new_zeros(slots, channels, dtype=torch.float32),
            subsampled=like.new_zeros(slots, channels // 2, channels),
            keys=like.new_zeros(count, slots, ring, hidden),
            values=like.new_zeros(count, slots, ring, hidden),
            conv=like.new_zeros(count, slots, layer.conv.shape[0] - 1, hidden),
        )

    def copy(self, source: int, target: int) -> None:
        """Make slot `target` a copy of slot `source`."""
        self.mel[target] = self.mel[source]
        self.subsampled[target] = self.subsampled[source]
        for part in (self.keys, self.values, self.conv):
            part[:, target] = part[:, source]


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes pieces of speech.

    Attributes:
        weights: Of the checkpoint.
        ops: `audio_ops` or `audio_kernels`.
    """

    weights: EncoderWeights
    ops: ModuleType = audio_ops

    def encode(
        self,
        state: EncoderState,
        mel: Tensor,
        frames: Tensor,
        slots: Tensor,
        seen: Tensor,
        *,
        write: bool = True,
    ) -> Tensor:
        """Encode the next piece of every row's clip.

        Args:
            state: Carried on in place, unless not `write`.
            mel: float32[rows, 4 * tokens, bins].
            frames: int64[rows], how many of a row's mel frames are real; all of them but in
                the last piece of a clip.
            slots: int64[rows], each row's slot of the state; no two alike.
            seen: int64[rows], tokens of the clip before this piece.
            write: False for a last piece that may turn out not to be the last.

        Returns:
            [rows, tokens, hidden of the text model]; of these the first `tokens_of(frames)`
            are real, the others are to be ignored.
        """
        weights, ops = self.weights, self.ops
        place = audio_ops.Place(slots, seen, write)
        x = self._subsample(state, mel, frames, place)
        for index in range(len(weights.layers)):
            x = self._layer(index, x, state, place)
        out = functional.linear(x, weights.out, weights.out_bias)
        normed = ops.norm(
            out, weights.embed_norm, torch.finfo(out.dtype).max, (-torch.inf, torch.inf)
        )
        return functional.linear(normed, weights.embed)

    def _subsample(
        self, state: EncoderState, mel: Tensor, frames: Tensor, place: audio_ops.Place
    ) -> Tensor:
        weights, slots = self.weights, place.slots
        rows, length, _ = mel.shape
        began = (place.seen > 0)[:, None]
        index = torch.arange(length, device=mel.device)
        mel = mel * (index < frames[:, None])[..., None]
        x = torch.cat([(state.mel[slots] * began)[:, None], mel], dim=1).to(weights.conv0.dtype)
        x = self._convolve(x[..., None], weights.conv0, weights.norm0)
        # A frame after the first convolution is real if the mel frame at its centre is.
        x = x * (index[::2] < frames[:, None])[..., None, None]
        before = state.subsampled[slots] * began[..., None]
        joined = torch.cat([before[:, None], x], dim=1)
        if place.write:
            state.mel[slots] = mel[:, -1]
            state.subsampled[slots] = x[:, -1]
        x = self._convolve(joined, weights.conv1, weights.norm1)
        return functional.linear(x.reshape(rows, length // FRAMES_PER_TOKEN, -1), weights.entry)

    def _convolve(self, x: Tensor, taps: Tensor, scale: Tensor) -> Tensor:
        """[rows, 2 n + 1, bins, in] to [rows, n, bins / 2, out], as a matrix product."""
        x = functional.pad(x, (0, 0, 1, 1))
        windows = x.unfold(1, 3, 2).unfold(2, 3, 2).permute(0, 1, 2, 4, 5, 3)
        out = windows.flatten(3) @ taps
        out = functional.layer_norm(out, out.shape[-1:], scale, eps=self.weights.norm_eps)
        return functional.relu(out)

    def _layer(
        self,
        index: int,
        x: Tensor,
        state: EncoderState,
        place: audio_ops.Place,
    ) -> Tensor:
        weights, ops, layer = self.weights, self.ops, self.weights.layers[index]
        limit = weights.limit
        x = self._feed_forward(layer.first, x)
        y = layer.qkv.apply(ops.norm(x, layer.attention_before, limit, layer.qkv.enter))
        y = ops.attend(
            y,
            layer.qkv.outputs,
            state.keys[index],
            state.values[index],
            place=place,
            query_scale=layer.query_scale,
            key_scale=layer.key_scale,
            relative=layer.relative,
            soft_cap=weights.soft_cap,
            enter=layer.post.enter,
        )
        y = layer.post.apply(y)
        x = ops.join(y, layer.post.leave, x, layer.attention_after, limit=limit, scale=1.0)
        y = ops.norm(x, layer.conv_before, math.inf, layer.conv_start.enter)
        y = ops.gated_conv(
            layer.conv_start.apply(y),
            layer.conv_start.leave,
            state.conv[index],
            place,
            taps=layer.conv,
            by=layer.conv_norm,
            limit=limit,
            enter=layer.conv_end.enter,
        )
        x = ops.add(layer.conv_end.apply(y), layer.conv_end.leave, x)
        x = self._feed_forward(layer.second, x)
        result: Tensor = ops.norm(x, layer.out, limit, UNBOUNDED)
        return result

    def _feed_forward(self, part: FeedForwardWeights, x: Tensor) -> Tensor:
        ops, limit = self.ops, self.weights.limit
        y = part.up.apply(ops.norm(x, part.before, limit, part.up.enter))
        y = part.down.apply(ops.silu(y, part.up.leave, part.down.enter))
        out: Tensor = ops.join(y, part.down.leave, x, part.after, limit=limit, scale=part.scale)
        return out
