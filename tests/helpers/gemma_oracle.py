"""transformers' own answers, for comparison."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import Gemma4AudioFeatureExtractor

EXTRACTOR = Gemma4AudioFeatureExtractor()


@dataclass
class Prompt:
    """One prompt of text and clips, as token ids and features for transformers."""

    ids: list[int] = field(default_factory=list)
    clips: list[np.ndarray] = field(default_factory=list)

    def text(self, ids: list[int]) -> Prompt:
        self.ids += ids
        return self

    def clip(self, samples: np.ndarray, config) -> Prompt:
        """Begin of audio, one placeholder for each soft token, end of audio."""
        frames = (len(samples) - 1) // 160
        self.ids += [config.boa_token_id, *[config.audio_token_id] * -(-frames // 4)]
        self.ids += [config.eoa_token_index]
        self.clips.append(samples)
        return self

    def inputs(self) -> dict[str, torch.Tensor]:
        out = {"input_ids": torch.tensor([self.ids])}
        if self.clips:
            features = EXTRACTOR(self.clips, return_tensors="pt")
            out["input_features"] = features["input_features"]
            out["input_features_mask"] = features["input_features_mask"]
        return out


@torch.no_grad()
def logits(model, prompt: Prompt) -> torch.Tensor:
    """float32[tokens, vocabulary] of one plain forward."""
    return model(**prompt.inputs(), use_cache=False).logits[0].float()


def placeholders(model) -> list[int]:
    """Tokens that stand for media; transformers reads them as pad when they are generated."""
    config = model.config
    return [config.image_token_id, config.audio_token_id, config.video_token_id]


def best(model, logits: torch.Tensor) -> int:
    """The greedy token of one row of logits."""
    return int(logits.index_fill(0, torch.tensor(placeholders(model)), -torch.inf).argmax())


@torch.no_grad()
def greedy(model, prompt: Prompt, count: int) -> list[int]:
    """Exactly `count` greedy tokens by `generate`, end tokens included like any other."""
    out = model.generate(
        **prompt.inputs(),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=model.config.text_config.vocab_size,
        pad_token_id=0,
        suppress_tokens=placeholders(model),
    )
    return out[0, len(prompt.ids) :].tolist()
