"""What the tiny checkpoint is trained on: batches that fit, features that are the stock ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from transformers import Gemma4AudioFeatureExtractor

from scripts.tiny_gemma.batches import batch
from scripts.tiny_gemma.dialogues import Maker
from scripts.tiny_gemma.folder import make_config, make_model, make_tokenizer
from scripts.tiny_gemma.shapes import IGNORE, SHAPES
from scripts.tiny_gemma.sound import Sound
from scripts.tiny_gemma.training import Whole
from scripts.tiny_gemma.voices import Bank, Run

SMALL = {
    "one": dataclasses.replace(SHAPES["one"], rows=12, clips=12),
    "some": dataclasses.replace(SHAPES["some"], rows=12, clips=20),
    "long": dataclasses.replace(SHAPES["long"], rows=3, clips=8),
}


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    random, made = np.random.default_rng(0), []
    for index in range(60):
        digits = tuple(int(digit) for digit in random.integers(0, 10, 1 + index % 3))
        lengths = random.integers(3000, 9000, len(digits))
        samples = random.integers(-16000, 16000, int(lengths.sum())).astype(np.int16)
        made.append(Run(samples, digits, tuple(np.cumsum(lengths).tolist()), f"en+{index % 5}"))
    return made


@pytest.fixture(scope="module")
def sound(runs: list[Run]) -> Sound:
    samples = np.concatenate([run.samples for run in runs])
    return Sound(torch.from_numpy(samples), torch.device("cpu"))


@pytest.mark.parametrize("kind", SMALL)
def test_labels_lie_inside_their_clips(runs: list[Run], kind: str) -> None:
    bank, shape = Bank(runs), SMALL[kind]
    maker = Maker(make_tokenizer(), bank, seed=1)
    for _ in range(20):
        made = batch(maker, bank, shape)
        soft_tokens = -(-((made["samples"] - 1) // 160) // 4)
        used = made["samples"] != 0
        assert (soft_tokens[used] > 0).all()
        assert (made["samples"] < shape.samples).all()
        beyond = np.arange(shape.soft_tokens) >= np.where(used, soft_tokens, 0)[:, None]
        assert (made["events"][beyond] == IGNORE).all()
        placed = made["audio_index"][made["audio_index"] >= 0]
        assert len(placed) == soft_tokens[used].sum() == len(set(placed.tolist()))
        learned = made["labels"] != IGNORE
        assert (made["labels"][learned] == made["ids"][learned]).all()
        assert learned.any(axis=1).all()


def test_features_are_the_extractors(runs: list[Run], sound: Sound) -> None:
    bank, shape = Bank(runs), SMALL["one"]
    made = batch(Maker(make_tokenizer(), bank, seed=2), bank, shape)
    plan = {name: torch.from_numpy(values) for name, values in made.items()}
    audio = sound.spoil(sound.compose(plan, shape.samples), plan["samples"])
    mel, mask = sound.mel(audio, plan["samples"])
    extractor = Gemma4AudioFeatureExtractor()
    for slot in np.flatnonzero(made["samples"])[:4]:
        clip = audio[slot, : made["samples"][slot]].numpy()
        stock = extractor([clip], return_tensors="pt")
        valid = int(stock["input_features_mask"].sum())
        assert int(mask[slot].sum()) == valid
        torch.testing.assert_close(
            mel[slot, :valid], stock["input_features"][0, :valid], rtol=0, atol=2e-3
        )


def test_the_training_pass_is_the_models_own(runs: list[Run], sound: Sound) -> None:
    tokenizer, bank = make_tokenizer(), Bank(runs)
    shape = dataclasses.replace(SHAPES["some"], rows=3, clips=9)
    made = batch(Maker(tokenizer, bank, seed=3), bank, shape, "answer")
    plan = {name: torch.from_numpy(values) for name, values in made.items()}
    mel, mask = sound.mel(sound.compose(plan, shape.samples), plan["samples"])
    model = make_model(make_config(tokenizer), seed=0)
    whole = Whole(model)
    with torch.no_grad():
        mine = whole.logits(whole.read(plan["ids"], plan["audio_index"], whole.hear(mel, mask)))
        for row in range(shape.rows):
            count = int((made["ids"][row] > 0).sum())
            index = made["audio_index"][row]
            clips = sorted(set((index[index >= 0] // shape.soft_tokens).tolist()))
            stock = model(
                input_ids=plan["ids"][row : row + 1, :count].long(),
                input_features=mel[clips],
                input_features_mask=mask[clips],
            ).logits
            torch.testing.assert_close(mine[row : row + 1, :count], stock, rtol=0, atol=2e-4)
