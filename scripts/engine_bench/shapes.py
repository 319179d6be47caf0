"""Models of the published shapes with random weights, and what is said to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
)

from agent.audio.mel import MelParameters

Samples = NDArray[np.float32]

EXTRACTOR = Gemma4AudioFeatureExtractor()
MEL = MelParameters.from_extractor(EXTRACTOR)
RATE_HZ = 16_000
OPENING = [2, 105, 2364, 107]
CLOSING = [258_883, 106, 107, 105, 4368, 107]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What sets one checkpoint's shape apart; every `full_every`th layer is a full one."""

    layers: int
    full_every: int
    hidden: int
    ffn: int
    kv_heads: int
    shared: int
    head: int = 256
    full_head: int = 512
    per_layer: int = 256
    wide_shared_ffn: bool = False
    audio: dict[str, int] = field(default_factory=dict)

    def config(self) -> Gemma4Config:
        """Of a checkpoint without a vision tower."""
        kinds = [
            "full_attention" if (index + 1) % self.full_every == 0 else "sliding_attention"
            for index in range(self.layers)
        ]
        text = {
            "vocab_size": 262_144,
            "vocab_size_per_layer_input": 262_144,
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "layer_types": kinds,
            "num_kv_shared_layers": self.shared,
            "num_attention_heads": 8,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "global_head_dim": self.full_head,
            "sliding_window": 512,
            "hidden_size_per_layer_input": self.per_layer,
            "use_double_wide_mlp": self.wide_shared_ffn,
            "final_logit_softcapping": 30.0,
            "max_position_embeddings": 131_072,
        }
        return Gemma4Config(text_config=text, audio_config=dict(self.audio), vision_config=None)


_SMALL_AUDIO = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "output_proj_dims": 96,
}
SIZES = {
    "e2b": Sizes(35, 5, 1536, 6144, kv_heads=1, shared=20, wide_shared_ffn=True),
    "e4b": Sizes(42, 6, 2560, 10_240, kv_heads=2, shared=18),
    "tiny": Sizes(
        10, 5, 128, 256, kv_heads=1, shared=5, head=32, full_head=64, per_layer=16,
        audio=_SMALL_AUDIO,
    ),
    # For tests: small, but with the real heads and windows.
    "one-key-head": Sizes(
        10, 5, 512, 1024, kv_heads=1, shared=5, per_layer=64, wide_shared_ffn=True,
        audio=_SMALL_AUDIO,
    ),
    "two-key-heads": Sizes(
        12, 6, 640, 1280, kv_heads=2, shared=6, per_layer=64, audio=_SMALL_AUDIO
    ),
}  # fmt: skip


def random_model(shape: str, device: str, dtype: torch.dtype) -> Any:
    """A model of that shape with random weights, made where it is used."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = Gemma4ForConditionalGeneration(SIZES[shape].config())
    finally:
        torch.set_default_dtype(before)
    # Attention has no scale of its own: with the norms' neutral weights random queries and
    # keys make it a hard maximum, which any rounding tips over. Trained weights do not.
    for layer in model.model.language_model.layers:
        layer.self_attn.q_norm.weight.data.fill_(layer.self_attn.head_dim**-0.5)
    return model.eval().requires_grad_(requires_grad=False)


def noise(seconds: float, seed: int) -> Samples:
    """White noise that long."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(seconds * RATE_HZ))).astype(np.float32)


def random_text(count: int, seed: int) -> list[int]:
    """So many ordinary tokens."""
    return np.random.default_rng(seed).integers(1000, 200_000, count).tolist()
