"""The embedded engine's two models by themselves: the real files, in this process."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from itertools import cycle

import numpy as np
import pytest

from agent.audio.pcm import Samples
from agent.config import Settings
from agent.engine.factory import small_spec
from agent.engine.small.language_model import LanguageModel, Sampling
from agent.engine.small.recogniser import Recogniser
from agent.errors import ContextOverflow, EngineError
from agent.models.store import ModelStore
from tests.helpers.speech import recordings
from tests.helpers.wer import total, word_errors

pytestmark = [pytest.mark.models, pytest.mark.slow]


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser(ModelStore().ensure("whisper-base"), threads=1)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    store = ModelStore()
    store.ensure("smollm2-135m-instruct")
    file = store.file("smollm2-135m-instruct", "SmolLM2-135M-Instruct.Q4_1.gguf")
    return LanguageModel(file, threads=1, context_tokens=512, parallel=2, cache_mib=8)


def test_the_words_of_real_people_are_understood(recogniser: Recogniser) -> None:
    errors = total(
        word_errors(clip.text, recogniser.hear(clip.samples(), "en").text) for clip in recordings()
    )
    assert errors.rate <= 0.05


def test_a_clip_of_almost_thirty_seconds_is_heard_to_its_end(recogniser: Recogniser) -> None:
    pieces: list[Samples] = []
    texts: list[str] = []
    for clip in cycle(recordings()):
        samples = np.concatenate([clip.samples(), np.zeros(3200, np.float32)])
        if sum(piece.size for piece in pieces) + samples.size >= 29.5 * 16_000:
            break
        pieces.append(samples)
        texts.append(clip.text)
    heard = recogniser.hear(np.concatenate(pieces), "en").text
    assert word_errors(" ".join(texts), heard).rate <= 0.08


@pytest.mark.parametrize("language", ["de", "fr", "es"])
def test_the_language_is_found(recogniser: Recogniser, language: str) -> None:
    (clip, *_) = recordings(language)
    assert recogniser.hear(clip.samples()).language == language


@pytest.mark.parametrize("level", [0.0, 1e-3, 1e-2, 0.1])
def test_noise_has_no_words(recogniser: Recogniser, level: float) -> None:
    noise = np.random.default_rng(1).standard_normal(32_000).astype(np.float32) * level
    assert recogniser.hear(noise).text == ""


def test_prompts_are_counted_as_they_are_read(model: LanguageModel) -> None:
    messages = [{"role": "system", "content": "Be nice."}, {"role": "user", "content": "Grüße! 😀"}]
    cost = model.generate(messages, Sampling(1, 0.0, None), lambda *_: False)
    assert model.count_tokens(messages) == cost.prompt_tokens


def test_characters_of_many_bytes_come_whole(model: LanguageModel) -> None:
    said = "日本語 😀 żółć"
    turn = [{"role": "user", "content": f"Say {said}"}, {"role": "assistant", "content": said}]
    pieces: list[str] = []
    model.generate(
        [*turn, *turn, *turn, turn[0]],
        Sampling(40, 0.0, None),
        lambda text, _: bool(pieces.append(text)),
    )
    assert said in "".join(pieces)
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


@pytest.mark.parametrize("seed", [7, 8])
def test_the_same_seed_gives_the_same_answer(model: LanguageModel, seed: int) -> None:
    def answer(seed: int) -> str:
        pieces: list[str] = []
        model.generate(
            [{"role": "user", "content": "Tell me about rain."}],
            Sampling(20, 1.0, seed),
            lambda text, _: bool(pieces.append(text)),
        )
        return "".join(pieces)

    answer(seed)  # from here on the prompt is resident, which may change a last bit
    assert answer(seed) == answer(seed) != answer(seed + 10)


def test_the_templates_own_marks_end_nothing_when_a_user_says_them(model: LanguageModel) -> None:
    plain = model.count_tokens([{"role": "user", "content": "hi"}])
    assert model.count_tokens([{"role": "user", "content": "< |im_end|>hi"}]) > plain + 3


def test_a_prompt_beyond_the_context_is_refused(model: LanguageModel) -> None:
    with pytest.raises(ContextOverflow, match="tokens"):
        model.generate(
            [{"role": "user", "content": "word " * 5000}], Sampling(1, 0.0, None), lambda *_: False
        )


def test_a_failing_listener_is_not_swallowed(model: LanguageModel) -> None:
    def fail(text: str, cost: object) -> bool:
        raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        model.generate([{"role": "user", "content": "hi"}], Sampling(5, 0.0, None), fail)


def test_only_this_user_reaches_the_models_own_api(model: LanguageModel) -> None:
    assert model._folder.stat().st_mode & 0o077 == 0
    model._key, key = "wrong", model._key
    try:
        with pytest.raises(EngineError, match="API Key"):
            model.count_tokens([{"role": "user", "content": "never counted before"}])
    finally:
        model._key = key


_MANY_LENGTHS = """
import ctypes, sys
import numpy as np
from pathlib import Path
from agent.engine.small.recogniser import Recogniser

class Info(ctypes.Structure):  # mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keep".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
recogniser = Recogniser(Path(sys.argv[1]), threads=1)
used = []
for number in range(24):
    clip = np.full(16_000 + 320 * number, 0.01, np.float32)
    recogniser.hear(clip, "en", draft=True)
    used.append(libc.mallinfo2().uordblks)
print(used[-1] - used[3])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33")
def test_clips_of_many_lengths_leave_no_memory_behind() -> None:
    """In a process with the environment that the engine's own has: without it 16 MB stay."""
    done = subprocess.run(
        [sys.executable, "-c", _MANY_LENGTHS, str(ModelStore().ensure("whisper-base"))],
        env=os.environ | dict(small_spec(Settings()).environment),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert int(done.stdout) < 4_000_000
