"""The tiny checkpoint in tests/data hears digits: transformers itself reads them with it."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoFeatureExtractor

from agent.engine.gemma.checkpoint import Checkpoint, open_checkpoint
from scripts.tiny_gemma import words

DATA = Path(__file__).resolve().parents[3] / "data"
FOLDER = DATA / "tiny-gemma"
SPOKEN = DATA / "spoken-digits"
SAID: dict[str, dict[str, str]] = json.loads((SPOKEN / "manifest.json").read_text("utf-8"))
AUDIO = {"type": "audio"}


def clip(name: str) -> np.ndarray:
    with wave.open(str(SPOKEN / name)) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return (data / 32768).astype(np.float32)


def user(text: str = "", *, clips: int = 1) -> dict:
    typed = [{"type": "text", "text": text}] if text else []
    return {"role": "user", "content": [AUDIO] * clips + typed}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(str(FOLDER), device="cpu", dtype="float32")


def reply(checkpoint: Checkpoint, messages: list[dict], clips: list[str]) -> str:
    """What `generate` says, from the template, the stock extractor and the whole clips."""
    tokenizer = checkpoint.tokenizer
    heard = [clip(name) for name in clips]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    before, *after = text.split("<|audio|>")
    for samples, rest in zip(heard, after, strict=True):
        soft_tokens = -(-((len(samples) - 1) // 160) // 4)
        before += "<|audio>" + "<|audio|>" * soft_tokens + "<audio|>" + rest
    inputs = dict(tokenizer(before, add_special_tokens=False, return_tensors="pt"))
    if heard:
        inputs |= AutoFeatureExtractor.from_pretrained(FOLDER)(heard, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    out = checkpoint.model.generate(**inputs, do_sample=False)
    new = out[0, inputs["input_ids"].shape[1] :]
    assert new[-1] == tokenizer.convert_tokens_to_ids("<turn|>")
    return str(tokenizer.decode(new, skip_special_tokens=True))


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 10_000_000


def test_every_part_is_there(checkpoint: Checkpoint) -> None:
    config = AutoConfig.from_pretrained(FOLDER)
    text = config.text_config
    assert sum(parameter.numel() for parameter in checkpoint.model.parameters()) <= 5_000_000
    assert config.dtype == torch.bfloat16
    assert set(text.layer_types) == {"sliding_attention", "full_attention"}
    assert text.num_kv_shared_layers > 0
    assert text.hidden_size_per_layer_input > 0
    assert checkpoint.mel.bins == 128
    assert checkpoint.mel.rate_hz == 16_000


@pytest.mark.parametrize(
    "text", ["You said 3 1 4.", "Grüße, 日本 \N{GRINNING FACE}\n  two  spaces"]
)
def test_any_text_can_be_written(checkpoint: Checkpoint, text: str) -> None:
    ids = checkpoint.tokenizer(text, add_special_tokens=False).input_ids
    assert checkpoint.tokenizer.decode(ids) == text


def test_the_template_writes_published_turns(checkpoint: Checkpoint) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        user("Which digits did I say?", clips=2),
        {"role": "assistant", "content": "<|channel>thought\n3<channel|>You said 3."},
    ]
    text = checkpoint.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert text == (
        "<bos><|turn>system\nBe brief.<turn|>\n"
        "<|turn>user\n<|audio|><|audio|>Which digits did I say?<turn|>\n"
        "<|turn>model\nYou said 3.<turn|>\n<|turn>model\n"
    )


@pytest.mark.parametrize("name", SAID)
def test_it_says_the_digits_back(checkpoint: Checkpoint, name: str) -> None:
    system = {"role": "system", "content": "Answer in one sentence."}
    wanted = f"You said {SAID[name]['digits']}."
    assert reply(checkpoint, [user()], [name]) == wanted
    assert reply(checkpoint, [system, user()], [name]) == wanted


@pytest.mark.parametrize("prompt", [words.RECOGNISE.format("English"), words.RECOGNISE_ANY])
@pytest.mark.parametrize("name", SAID)
def test_it_transcribes(checkpoint: Checkpoint, name: str, prompt: str) -> None:
    assert reply(checkpoint, [user(prompt)], [name]) == SAID[name]["digits"]


def test_it_translates(checkpoint: Checkpoint) -> None:
    prompt = words.TRANSLATE.format("English", "Spanish")
    said = reply(checkpoint, [user(prompt)], ["three-one-four.wav"])
    assert said == "3 1 4\nSpanish: tres uno cuatro"


def test_it_hears_several_clips_of_one_turn(checkpoint: Checkpoint) -> None:
    clips = ["three-one-four.wav", "two-seven.wav", "nine.wav"]
    assert reply(checkpoint, [user(clips=3)], clips) == "You said 3 1 4 2 7 9."


def test_it_remembers_earlier_turns(checkpoint: Checkpoint) -> None:
    names = ["three-one-four.wav", "two-seven.wav", "nine.wav"]
    messages: list[dict] = []
    for name in names:
        answer = f"You said {SAID[name]['digits']}."
        assert reply(checkpoint, [*messages, user()], names[: len(messages) // 2 + 1]) == answer
        messages += [user(), {"role": "assistant", "content": answer}]
    for question, wanted in [
        ("Which digits did I say first?", "You said 3 1 4."),
        ("Which digits did I say before that?", "You said 2 7."),
        ("Which digits did I say last?", "You said 9."),
    ]:
        assert reply(checkpoint, [*messages, user(question, clips=0)], names) == wanted, question
