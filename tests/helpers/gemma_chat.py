"""A tokenizer, chat templates and a processor like those published with Gemma 4.

The tokenizer is of the published kind (BPE over pieces with "▁" for a space, single bytes
for what has no piece, no space in front); the template writes what the published one writes:
a system turn with the thinking mark and the tools, turns of user and model, calls and
responses of tools inside the model's turn, and an empty thought before an answer.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from tokenizers import AddedToken
from transformers import Gemma4AudioFeatureExtractor, GemmaTokenizer

from agent.engine.gemma.checkpoint import Checkpoint
from tests.helpers.tiny_gemma import NAMED, SPECIAL

CONTROL = ["<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>"]
CONTROL += ["<tool_response|>", '<|"|>', "<|think|>"]

WORDS = ["the", "in", "er", "on", "en", "system", "user", "model", "thought", "and", "▁the", "▁a"]
WORDS += ["é", "ñ", "ü", "ß", "日", "本", "😀", "�", "▁▁", "▁▁▁"]

CHAT_TEMPLATE = """
{%- macro value(x) -%}
  {%- if x is string -%}{{ '<|"|>' + x + '<|"|>' }}
  {%- elif x is boolean -%}{{ 'true' if x else 'false' }}
  {%- elif x is mapping -%}{{ '{' + pairs(x) + '}' }}
  {%- elif x is sequence -%}[{% for y in x %}{{ value(y) }}{{ ',' if not loop.last }}{% endfor %}]
  {%- else -%}{{ x }}{%- endif -%}
{%- endmacro -%}
{%- macro pairs(x) -%}
  {%- for k, v in x | dictsort -%}{{ k }}:{{ value(v) }}{{ ',' if not loop.last }}{%- endfor -%}
{%- endmacro -%}
{%- macro spoken(text) -%}
  {%- for part in text.split('<channel|>') -%}{{ part.split('<|channel>')[0] }}{%- endfor -%}
{%- endmacro -%}
{{- bos_token -}}
{%- set thinking = enable_thinking | default(false) -%}
{%- set state = namespace(open=false, rest=messages) -%}
{%- set first = messages[0]['role'] == 'system' -%}
{%- if first or tools or thinking -%}
  {{- '<|turn>system\\n' + ('<|think|>\\n' if thinking else '') -}}
  {%- if first -%}
    {{- messages[0]['content'] | trim -}}
    {%- set state.rest = messages[1:] -%}
  {%- endif -%}
  {%- for tool in tools or [] -%}
    {{- '<|tool>declaration:' + tool['function']['name'] + '{' -}}
    {{- 'description:' + value(tool['function']['description'] | default('')) -}}
    {%- if tool['function']['parameters'] -%}
      {{- ',parameters:' + value(tool['function']['parameters']) -}}
    {%- endif -%}
    {{- '}<tool|>' -}}
  {%- endfor -%}
  {{- '<turn|>\\n' -}}
{%- endif -%}
{%- for message in state.rest -%}
  {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
  {{- '<|turn>' + role + '\\n' -}}
  {%- for call in message['tool_calls'] or [] -%}
    {{- '<|tool_call>call:' + call['function']['name'] -}}
    {%- set given = call['function']['arguments'] -%}
    {{- '{' + (given if given is string else pairs(given)) + '}<tool_call|>' -}}
  {%- endfor -%}
  {%- for one in message['tool_responses'] or [] -%}
    {{- '<|tool_response>response:' + one['name'] -}}
    {%- set given = one['response'] -%}
    {{- '{' + pairs(given if given is mapping else {'value': given}) + '}<tool_response|>' -}}
  {%- endfor -%}
  {%- set content = message['content'] | default('') -%}
  {%- for part in ([{'type': 'text', 'text': content}] if content is string else content) -%}
    {%- if part['type'] == 'text' -%}
      {{- (spoken(part['text']) if role == 'model' else part['text']) | trim -}}
    {%- elif part['type'] == 'audio' -%}{{ '<|audio|>' }}
    {%- elif part['type'] == 'image' -%}{{ '\\n\\n<|image|>\\n\\n' }}
    {%- endif -%}
  {%- endfor -%}
  {%- set state.open = message['tool_responses'] and not content -%}
  {{- '' if state.open else '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '' if state.open else '<|turn>model\\n' -}}
  {{- '' if thinking else '<|channel>thought\\n<channel|>' -}}
{%- endif -%}
"""

STRICT_TEMPLATE = """{{ bos_token }}
{%- for message in messages -%}
  {%- if not loop.first and message['role'] == loop.previtem['role'] -%}
    {{- raise_exception('roles must alternate') -}}
  {%- endif -%}
  {{- '<|turn>' + message['role'] + '\\n' -}}
  {%- for part in message['content'] if message['content'] is not string -%}
    {{- part['text'] if part['type'] == 'text' else '<|audio|>' -}}
  {%- else -%}{{ message['content'] }}{%- endfor -%}
  {{- '<turn|>\\n' -}}
{%- endfor -%}
{{- '<|turn>assistant\\n' if add_generation_prompt -}}
"""
"""Refuses two messages of one role in a row, and knows no tools."""


def published_tokenizer(template: str = CHAT_TEMPLATE) -> GemmaTokenizer:
    """Of the published kind, with a small vocabulary."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    names += [f"<0x{byte:02X}>" for byte in range(256)]
    names += [chr(code) for code in range(33, 127)] + ["▁", "\n", "\t"]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            merges.append((word[: end - 1], word[end - 1]))
            names.append(word[:end])
        names.append(word)
    vocabulary = {name: place for place, name in enumerate(dict.fromkeys(names))}
    tokenizer = GemmaTokenizer(
        vocab=vocabulary,
        merges=list(dict.fromkeys(merges)),
        extra_special_tokens=NAMED,
    )
    tokenizer.add_tokens([AddedToken(name, special=True) for name in [*SPECIAL, *CONTROL]])
    # Whole runs of line breaks and tags of HTML are tokens of their own, and not special.
    plain = ["\n\n", "\n\n\n", "<table>", "<b>"]
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in plain])
    tokenizer.chat_template = template
    return tokenizer


def published_processor(tokenizer: GemmaTokenizer):
    """transformers' own processor around it.

    Raises:
        ModuleNotFoundError: This version of transformers cannot import it without torchvision.
    """
    from transformers import Gemma4Processor

    class WithoutPictures(Gemma4Processor):
        """Where the libraries for pictures are missing: no part's class is checked."""

        def check_argument_for_proper_class(self, argument_name, argument):
            return None

    return WithoutPictures(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=None,
        tokenizer=tokenizer,
        video_processor=None,
        chat_template=tokenizer.chat_template,
    )


def clip_samples(tokens: int) -> np.ndarray:
    """Silence of so many soft tokens."""
    return np.zeros(640 * tokens + 1, np.float32)


def published_checkpoint(
    template: str = CHAT_TEMPLATE, *, eos: int | list[int] | None = 1
) -> Checkpoint:
    """Tokenizer, template and configuration; there are no weights."""
    tokenizer = published_tokenizer(template)
    model = SimpleNamespace(
        config=SimpleNamespace(audio_token_id=tokenizer.convert_tokens_to_ids("<|audio|>")),
        generation_config=SimpleNamespace(eos_token_id=eos),
    )
    return Checkpoint("a/checkpoint", model, tokenizer, None)
