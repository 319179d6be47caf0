"""The checkpoint's folder: configuration, tokenizer, chat template, processor, weights."""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    GemmaTokenizer,
)

from scripts.tiny_gemma import words
from tests.helpers.tiny_gemma import VISION, media_ids

# The names that the published checkpoints use, in an order of our own.
BASIC = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
NAMED = {
    "sot_token": "<|turn>",
    "eot_token": "<turn|>",
    "soc_token": "<|channel>",
    "eoc_token": "<channel|>",
    "think_token": "<|think|>",
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "std_token": "<|tool>",
    "etd_token": "<tool|>",
    "stc_token": "<|tool_call>",
    "etc_token": "<tool_call|>",
    "str_token": "<|tool_response>",
    "etr_token": "<tool_response|>",
    "escape_token": '<|"|>',
}
VIDEO = "<|video|>"
VOCABULARY = 1024

CHAT_TEMPLATE = """\
{#- The turn format of the published Gemma 4 checkpoints, for what a voice agent sends. -#}
{%- macro spoken(content) -%}
{%- if content is string -%}{{ content | trim }}
{%- elif content -%}
{%- for part in content -%}
{%- if part['type'] == 'audio' -%}{{ '<|audio|>' }}
{%- elif part['type'] == 'image' -%}{{ '<|image|>' }}
{%- elif part['type'] == 'video' -%}{{ '<|video|>' }}
{%- else -%}{{ part['text'] | trim }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- macro unthought(text) -%}
{%- for piece in text.split('<channel|>') -%}{{ piece.split('<|channel>')[0] }}{%- endfor -%}
{%- endmacro -%}
{{ bos_token }}
{%- set first_is_system = messages and messages[0]['role'] in ('system', 'developer') -%}
{%- if first_is_system or tools or enable_thinking -%}
{{ '<|turn>system\\n' }}
{%- if enable_thinking -%}{{ '<|think|>' }}{%- endif -%}
{%- if first_is_system -%}{{ spoken(messages[0]['content']) }}{%- endif -%}
{%- for tool in tools or [] -%}{{ '<|tool>declaration:' + tool | tojson + '<tool|>' }}{%- endfor -%}
{{ '<turn|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{%- if not (loop.first and first_is_system) -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{{ '<|turn>' + role + '\\n' }}
{%- if role == 'tool' -%}
{{ '<|tool_response>' + spoken(message['content']) + '<tool_response|>' }}
{%- elif role == 'model' -%}
{{ unthought(spoken(message['content'])) }}
{%- for call in message['tool_calls'] or [] -%}
{%- set function = call['function'] or call -%}
{{ '<|tool_call>call:' + function['name'] }}
{%- if function['arguments'] is string -%}{{ function['arguments'] }}
{%- else -%}{{ function['arguments'] | tojson }}{%- endif -%}
{{ '<tool_call|>' }}
{%- endfor -%}
{%- else -%}{{ spoken(message['content']) }}
{%- endif -%}
{{ '<turn|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|turn>model\\n' }}{%- endif -%}
"""


def make_tokenizer() -> GemmaTokenizer:
    """Gemma's own kind of tokenizer (BPE over `▁`, bytes for all else) with few tokens."""
    special = [*BASIC, *NAMED.values(), VIDEO]
    raw = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = "áéíóúñüöäßèêçà¿¡\u2019\u201c\u201d\u2026\u2013"
    characters = sorted({*string.printable[:95], "▁", "\n", *letters} - {" "})
    tokenizer = Tokenizer(models.BPE(unk_token=BASIC[3], byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    # No token spans two words, a line break or two digits.
    pieces = Regex(r"\n|▁?\p{N}|▁?\p{L}+|▁?[^\s\p{L}\p{N}▁]|▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*special, *raw],
        initial_alphabet=characters,
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(words.corpus(np.random.default_rng(0)), trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    result = GemmaTokenizer(
        vocab=trained["vocab"],
        merges=[tuple(merge) for merge in trained["merges"]],
        extra_special_tokens=NAMED,
        additional_special_tokens=[VIDEO],
        padding_side="left",
        model_max_length=131_072,
    )
    result.chat_template = CHAT_TEMPLATE
    return result


def make_config(tokenizer: GemmaTokenizer) -> Gemma4Config:
    """Six text layers, the last two without keys and values of their own; five in the ear."""
    kinds = ["sliding_attention", "full_attention"] * 3
    text = {
        "vocab_size": len(tokenizer),
        "vocab_size_per_layer_input": len(tokenizer),
        "hidden_size": 192,
        "intermediate_size": 384,
        "num_hidden_layers": len(kinds),
        "layer_types": kinds,
        "num_kv_shared_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "global_head_dim": 64,
        "sliding_window": 64,
        "hidden_size_per_layer_input": 16,
        "use_double_wide_mlp": True,
        "final_logit_softcapping": 30.0,
        "max_position_embeddings": 131_072,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    hearing = {
        "hidden_size": 128,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "subsampling_conv_channels": [128, 16],
        "output_proj_dims": 192,
        "initializer_range": 0.05,
    }
    return Gemma4Config(
        text_config=text,
        audio_config=hearing,
        vision_config=VISION,
        **media_ids(tokenizer),
        initializer_range=0.05,
    )


def make_model(config: Gemma4Config, *, seed: int) -> Gemma4ForConditionalGeneration:
    """Random weights, float32."""
    torch.manual_seed(seed)
    return Gemma4ForConditionalGeneration(config)


def save(folder: Path, model: Gemma4ForConditionalGeneration, tokenizer: GemmaTokenizer) -> None:
    """Write everything that `from_pretrained` wants, weights in bfloat16."""
    settings = model.generation_config
    settings.eos_token_id = [1, tokenizer.convert_tokens_to_ids("<turn|>")]
    settings.pad_token_id, settings.bos_token_id = 0, 2
    settings.max_new_tokens = 64
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    vision = {"patch_size": 4, "pooling_kernel_size": 1, "max_soft_tokens": 70}
    images = {"image_processor_type": "Gemma4ImageProcessor", **vision}
    videos = {"video_processor_type": "Gemma4VideoProcessor", **vision}
    processor = {
        "processor_class": "Gemma4Processor",
        "audio_ms_per_token": 40,
        "audio_seq_length": 750,
        "image_seq_length": 70,
        "feature_extractor": json.loads(Gemma4AudioFeatureExtractor().to_json_string()),
        "image_processor": images,
        "video_processor": videos,
    }
    text = json.dumps(processor, indent=2, sort_keys=True)
    (folder / "processor_config.json").write_text(text + "\n", "utf-8")
