"""How the recogniser judges and repeats, with a scripted Whisper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.audio.pcm import Samples
from agent.engine.small.recogniser import Recogniser
from agent.errors import EngineError, Unsupported

faster_whisper = pytest.importorskip("faster_whisper")

TIMES = 1000  # the first timestamp token; text tokens are below `END`
END = 500
TRANSLATE = END + 2
WORDS = {1: " one", 2: " two", 3: " three", 9: " la" * 40}


@dataclass
class Result:
    """What one decoding gives."""

    tokens: list[int]
    log_probability: float = -0.2
    no_speech: float = 0.1


@dataclass
class FakeWhisper:
    """Gives scripted results and notes the windows it encoded, in seconds."""

    results: list[Result] = field(default_factory=list)
    language: tuple[str, float] = ("<|en|>", 0.9)
    windows_s: list[float] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    no_repeats: list[int] = field(default_factory=list)
    max_length: int = 448
    supported_languages: tuple[str, ...] = ("en", "de", "no", "he")

    def __post_init__(self) -> None:
        self.model = self
        self.hf_tokenizer = self

    # --- WhisperModel

    def feature_extractor(self, samples: Samples) -> np.ndarray:
        return np.zeros((80, samples.size // 160 + 1), np.float32)

    def encode(self, thing: Any, add_special_tokens: bool = True) -> Any:
        if isinstance(thing, str):
            return SimpleNamespace(ids=[END - 1])
        self.windows_s.append(thing.shape[1] / 100)
        return thing

    def get_prompt(self, tokenizer: Any, previous: list[int], *, without_timestamps: bool) -> Any:
        assert not without_timestamps
        self.languages.append(tokenizer.language_code)
        self.tasks.append("translate" if tokenizer.task == TRANSLATE else "transcribe")
        return [1, 2, 3]

    # --- ctranslate2

    def detect_language(self, encoded: Any) -> Any:
        return [[self.language, ("<|xx|>", 0.01)]]

    def generate(self, encoded: Any, prompts: Any, **options: Any) -> Any:
        self.no_repeats.append(options["no_repeat_ngram_size"])
        result = self.results.pop(0)
        length = len(result.tokens)
        score = result.log_probability * (length + 1) / max(1, length)
        return [
            SimpleNamespace(
                sequences_ids=[result.tokens], scores=[score], no_speech_prob=result.no_speech
            )
        ]

    # --- tokenizers

    def token_to_id(self, token: str) -> int:
        known = {"<|endoftext|>": END, "<|notimestamps|>": TIMES - 1, "<|translate|>": TRANSLATE}
        return known.get(token, END + 1)

    def decode(self, tokens: list[int]) -> str:
        return "".join(WORDS[token] for token in tokens)


Make = Callable[..., tuple[Recogniser, FakeWhisper]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    def build(*results: Result, **whisper: Any) -> tuple[Recogniser, FakeWhisper]:
        fake = FakeWhisper(list(results), **whisper)
        monkeypatch.setattr(faster_whisper, "WhisperModel", lambda *_, **__: fake)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # put back afterwards
        for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
            (tmp_path / name).touch()
        return Recogniser(tmp_path, threads=1), fake

    return build


def speech(seconds: float) -> Samples:
    return np.full(int(seconds * 16_000), 0.1, np.float32)


def timed(word: int, until_s: float) -> list[int]:
    """Tokens of a word that ends at `until_s`."""
    return [TIMES, word, TIMES + round(until_s / 0.02)]


def test_a_clip_is_encoded_once_with_some_silence_and_not_for_thirty_seconds(make: Make) -> None:
    recogniser, whisper = make(Result(timed(1, 2)))
    heard = recogniser.hear(speech(2))
    assert (heard.text, heard.language) == ("one", "en")
    assert (heard.audio_tokens, heard.output_tokens) == (100, 3)
    assert whisper.windows_s == [10.0]


def test_no_window_is_longer_than_thirty_seconds(make: Make) -> None:
    recogniser, whisper = make(Result(timed(1, 29)))
    recogniser.hear(speech(29))
    assert whisper.windows_s == [30.0]


def test_what_was_left_unheard_is_heard_again(make: Make) -> None:
    recogniser, whisper = make(Result(timed(1, 4)), Result(timed(2, 5.5)), Result(timed(3, 0.5)))
    heard = recogniser.hear(speech(10))
    assert heard.text == "one two"  # half a second at the end is not worth a look
    assert whisper.windows_s == [18.0, 14.0]
    assert heard.output_tokens == 6


@pytest.mark.parametrize("stuck", [timed(1, 0), timed(1, 0.5)])
def test_it_does_not_hear_the_same_again_and_again(make: Make, stuck: list[int]) -> None:
    recogniser, whisper = make(Result(stuck))
    assert recogniser.hear(speech(10)).text == "one"
    assert len(whisper.windows_s) == 1


@pytest.mark.parametrize(
    "doubtful",
    [
        Result(timed(9, 2)),  # repeats itself
        Result(timed(1, 2), log_probability=-1.2),
        Result([1] * (2 * 12 + 16)),  # as long as it may be
    ],
)
def test_a_doubtful_result_is_tried_once_more_in_a_whole_window(
    make: Make, doubtful: Result
) -> None:
    recogniser, whisper = make(doubtful, Result(timed(2, 2)))
    assert recogniser.hear(speech(2)).text == "two"
    assert whisper.windows_s == [10.0, 30.0]


def test_a_draft_is_quick_and_says_where_its_parts_end(make: Make) -> None:
    tokens = [*timed(1, 3), *timed(2, 5), TIMES + 250, 3]
    recogniser, whisper = make(Result(tokens), Result(timed(9, 2)))
    heard = recogniser.hear(speech(6), draft=True)
    assert [(one.text, one.end_sample) for one in heard.segments] == [
        ("one", 3 * 16_000),
        ("two", 5 * 16_000),
        ("three", 6 * 16_000),
    ]
    # Doubtful words are left out and not tried again.
    assert recogniser.hear(speech(2), draft=True).text == ""
    assert whisper.windows_s == [10.0, 6.0]


def test_a_translation_is_a_second_decoding_of_the_same_sound(make: Make) -> None:
    recogniser, whisper = make(
        Result(timed(1, 2)), Result(timed(2, 2), log_probability=-1.5), language=("<|de|>", 0.9)
    )
    heard = recogniser.hear(speech(2), translate=True)
    assert (heard.text, heard.translation, heard.language) == ("one", "two", "de")
    assert heard.output_tokens == 6
    assert whisper.windows_s == [10.0]
    assert whisper.tasks == ["transcribe", "translate"]


def test_a_translation_that_repeats_itself_is_made_again_without_repetitions(make: Make) -> None:
    recogniser, whisper = make(
        Result(timed(1, 2)), Result(timed(9, 2)), Result(timed(2, 2)), language=("<|de|>", 0.9)
    )
    assert recogniser.hear(speech(2), translate=True).translation == "two"
    assert whisper.windows_s == [10.0]
    assert whisper.no_repeats == [0, 0, 3]


def test_english_needs_no_translation(make: Make) -> None:
    recogniser, whisper = make(Result(timed(1, 2)))
    assert recogniser.hear(speech(2), translate=True).translation == "one"
    assert whisper.tasks == ["transcribe"]


def test_what_was_left_untranslated_is_heard_again(make: Make) -> None:
    recogniser, whisper = make(
        Result(timed(1, 9.5)), Result(timed(2, 4)), Result(timed(3, 6)), language=("<|de|>", 0.9)
    )
    heard = recogniser.hear(speech(10), translate=True)
    assert (heard.text, heard.translation) == ("one", "two three")
    assert whisper.windows_s == [18.0, 14.0]


def test_silence_is_translated_as_nothing(make: Make) -> None:
    recogniser, _ = make()
    heard = recogniser.hear(np.zeros(16_000, np.float32), translate=True)
    assert (heard.text, heard.translation) == ("", "")
    assert recogniser.hear(np.zeros(16_000, np.float32)).translation is None


def test_of_two_doubtful_results_the_first_is_taken(make: Make) -> None:
    doubtful = Result(timed(1, 2), log_probability=-1.2)
    recogniser, _ = make(doubtful, Result(timed(2, 2), log_probability=-1.3))
    assert recogniser.hear(speech(2)).text == "one"


@pytest.mark.parametrize(
    "silence",
    [Result(timed(1, 2), -1.2, no_speech=0.7), Result(timed(1, 2), -0.2, no_speech=0.9)],
)
def test_noise_is_no_speech(make: Make, silence: Result) -> None:
    recogniser, whisper = make(silence)
    heard = recogniser.hear(speech(2))
    assert (heard.text, heard.language, heard.output_tokens) == ("", None, 3)
    assert len(whisper.windows_s) == 1


def test_speech_that_may_be_none_but_reads_well_is_kept(make: Make) -> None:
    recogniser, _ = make(Result(timed(1, 2), -0.2, no_speech=0.7))
    assert recogniser.hear(speech(2)).text == "one"


@pytest.mark.parametrize("samples", [np.zeros(16_000, np.float32), np.empty(0, np.float32)])
def test_what_cannot_be_heard_is_not_listened_to(make: Make, samples: Samples) -> None:
    recogniser, whisper = make()
    assert recogniser.hear(samples).text == ""
    assert whisper.windows_s == []


@pytest.mark.parametrize(
    ("found", "expected", "used", "told"),
    [
        (("<|de|>", 0.9), "en", "de", "de"),
        (("<|de|>", 0.3), "en", "en", None),
        (("<|de|>", 0.3), None, "de", None),
    ],
)
def test_an_unsure_language_is_the_one_spoken_before(
    make: Make, found: tuple[str, float], expected: str | None, used: str, told: str | None
) -> None:
    recogniser, whisper = make(Result(timed(1, 2)), language=found)
    heard = recogniser.hear(speech(2), expected=expected)
    assert whisper.languages == [used]
    assert heard.language == told


@pytest.mark.parametrize(
    ("given", "used"), [("en", "en"), ("de-AT", "de"), ("nb_NO", "no"), ("iw", "he")]
)
def test_languages_are_named_in_many_ways(make: Make, given: str, used: str) -> None:
    recogniser, whisper = make(Result(timed(1, 2)))
    recogniser.hear(speech(2), given)
    assert whisper.languages == [used]


def test_a_language_that_whisper_does_not_know_is_refused(make: Make) -> None:
    recogniser, _ = make()
    with pytest.raises(Unsupported, match="'tlh'"):
        recogniser.hear(speech(2), "tlh")


def test_missing_files_are_named_and_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    with pytest.raises(EngineError, match=r"config\.json, tokenizer\.json"):
        Recogniser(tmp_path, threads=1)
