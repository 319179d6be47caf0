"""Tiny Gemma 4 checkpoints with random weights, made on the fly.

All parts are there and small: mel extractor, conformer, per-layer embeddings, sliding and
full layers, layers that share keys and values, tokenizer, chat template, and the processor's
configuration in the layout that transformers writes (one file with everything nested).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

SPECIAL = [
    "<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>", "<|channel>", "<channel|>",
    "<|image>", "<image|>", "<|image|>", "<|audio>", "<audio|>", "<|audio|>", "<|video|>",
]  # fmt: skip

NAMED = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "sot_token": "<|turn>",
    "eot_token": "<turn|>",
    "soc_token": "<|channel>",
    "eoc_token": "<channel|>",
}
"""Special tokens that the published tokenizers have names for."""

VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "patch_size": 4,
    "pooling_kernel_size": 1,
    "position_embedding_size": 64,
}
"""A vision tower that is there so that everything loads."""

CHAT_TEMPLATE = """{{ bos_token }}
{%- for message in messages -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<|turn>' + role + '\n' }}
{%- if message['content'] is string -%}
{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'audio' -%}{{ '<|audio|>' }}
{%- elif part['type'] == 'image' -%}{{ '<|image|>' }}
{%- else -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<turn|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|turn>model\n' }}{%- endif -%}"""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Special tokens, then single bytes: every text can be written, none needs training."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        extra_special_tokens=NAMED,
    )


def media_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The ids of media that a configuration names, from its tokenizer."""
    token = tokenizer.convert_tokens_to_ids
    return {
        "boi_token_id": token("<|image>"),
        "eoi_token_id": token("<image|>"),
        "image_token_id": token("<|image|>"),
        "video_token_id": token("<|video|>"),
        "boa_token_id": token("<|audio>"),
        "eoa_token_index": token("<audio|>"),
        "audio_token_id": token("<|audio|>"),
    }


def tiny_config(tokenizer: PreTrainedTokenizerFast, *, audio: bool = True) -> Gemma4Config:
    """Seven layers, the last three without keys and values of their own."""
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    kinds += ["sliding_attention", "sliding_attention", "full_attention"]
    text = {
        "vocab_size": len(tokenizer),
        "vocab_size_per_layer_input": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": len(kinds),
        "layer_types": kinds,
        "num_kv_shared_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "global_head_dim": 32,
        "sliding_window": 32,
        "hidden_size_per_layer_input": 16,
        "use_double_wide_mlp": True,
        "final_logit_softcapping": 30.0,
        "max_position_embeddings": 8192,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    hearing = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "subsampling_conv_channels": [128, 8],
        "output_proj_dims": 40,
        "initializer_range": 0.2,
    }
    return Gemma4Config(
        text_config=text,
        audio_config=hearing if audio else None,
        vision_config=VISION,
        **media_ids(tokenizer),
    )


def tiny_model(
    config: Gemma4Config, *, seed: int = 0, clip: bool = True
) -> Gemma4ForConditionalGeneration:
    """Random weights in float32, with every learned scale and clip bound away from neutral."""
    torch.manual_seed(seed)
    model = Gemma4ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("per_dim_scale"):
                parameter.add_(0.2 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):
                buffer.uniform_(0.7, 1.1)
            elif clip and name.endswith(("input_min", "output_min")):
                buffer.fill_(-4.0 - torch.rand(()).item())
            elif clip and name.endswith(("input_max", "output_max")):
                buffer.fill_(4.0 + torch.rand(()).item())
    return model


def save_tiny_gemma(folder: Path, *, seed: int = 0, audio: bool = True) -> Path:
    """Write a whole checkpoint folder; returns it."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(tiny_config(tokenizer, audio=audio), seed=seed)
    model.generation_config.eos_token_id = [1, tokenizer.convert_tokens_to_ids("<turn|>")]
    model.save_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    extractor = json.loads(Gemma4AudioFeatureExtractor().to_json_string())
    processor = {"processor_class": "Gemma4Processor", "feature_extractor": extractor}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder
