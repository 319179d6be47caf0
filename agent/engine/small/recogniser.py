"""Whisper base: one clip of speech in, its words out.

Blocking; used by one thread at a time. faster-whisper's parts are called one by one instead
of its `transcribe`, which encodes a clip a second time to detect the language, always pays
for 30 s of audio, and may try up to six temperatures.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.audio.pcm import SAMPLE_RATE_HZ, Samples
from agent.errors import EngineError, Unsupported

if TYPE_CHECKING:
    from faster_whisper.tokenizer import Tokenizer

_FILES = ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")

SAMPLES_PER_TOKEN = 320
"""One position of the encoder's output: 20 ms. What we count as an audio token."""

_WINDOW_S = 30.0
# Silence appended to a clip. Whisper was trained on windows of 30 s; encoding only the clip
# and some silence takes a fifth of the time but makes it repeat itself when the silence is
# short: 2 s and less cost 100 % and more word errors on noisy clips, 4 s still now and
# then, 8 s none (docs/engine.md has the table).
_PADDING_S = 8.0
# Of clips that are heard again soon: half the time for long ones, and no second attempt.
_DRAFT_PADDING_S = 4.0
# Below this peak (-66 dBFS) there is nothing to hear, and Whisper would hear "you".
_AUDIBLE_PEAK = 5e-4
# Whisper's own limits for "this went wrong" and "nobody spoke".
_REPETITIVE_RATIO = 2.4
_UNLIKELY_LOG_PROBABILITY = -1.0
_NO_SPEECH_PROBABILITY = 0.6
# Real speech of the measured clips, noisy ones too, stays below 0.37; hum and hiss reach this
# with words that Whisper is sure of ("you").
_SURELY_NO_SPEECH_PROBABILITY = 0.7
# Without timestamps Whisper leaves a sentence out of a long clip now and then; with them it
# may stop before the end, but shows it, and the rest is heard again.
_UNHEARD_SAMPLES = SAMPLE_RATE_HZ
# Nobody speaks faster: about 4 words a second; it bounds what a repetition can cost.
_TOKENS_PER_S = 12
_EXTRA_TOKENS = 16
_SURE_OF_LANGUAGE = 0.5

_ENGLISH = "en"

# Codes that Whisper knows under another name.
_ALIASES = {"nb": "no", "cmn": "zh", "fil": "tl", "iw": "he", "in": "id", "jv": "jw"}


@dataclass(frozen=True, slots=True)
class _Task:
    """One of Whisper's tasks, and how it is done.

    Attributes:
        name: As Whisper calls it.
        beam_size: How many continuations are followed at a time.
        is_draft: Whether it is to be done quickly: the clip will be heard again.
        no_repeat: So many tokens never come twice in a row of the same; 0 for no such rule.
    """

    name: str
    beam_size: int
    is_draft: bool = False
    no_repeat: int = 0


# 5 takes a third longer and makes no fewer errors in English …
_HEAR, _DRAFT = _Task("transcribe", 1), _Task("transcribe", 1, is_draft=True)
# … but translations are much better, and so are words in other languages.
_TRANSCRIBE, _TRANSLATE = _Task("transcribe", 5), _Task("translate", 5)
# Half a sentence makes it repeat itself, in any window.
_TRANSLATE_AGAIN = _Task("translate", 5, no_repeat=3)


@dataclass(frozen=True, slots=True)
class Segment:
    """A sentence or phrase, as the recogniser divides them.

    Attributes:
        text: Its words, without spaces around them.
        end_sample: Where it ends in the clip.
    """

    text: str
    end_sample: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard in a clip.

    Attributes:
        text: The words, without spaces around them; empty when nobody spoke.
        audio_tokens: 20 ms pieces of audio that were listened to.
        output_tokens: Tokens that were written.
        language: Language of the words; None when nobody spoke or it is a guess.
        translation: The words in English; None when that was not asked for.
        segments: The words in parts; of drafts.
    """

    text: str
    audio_tokens: int = 0
    output_tokens: int = 0
    language: str | None = None
    translation: str | None = None
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One decoding of a clip, with Whisper's own measures of its quality."""

    text: str
    segments: tuple[Segment, ...]
    tokens: int
    heard_samples: int
    cut_off: bool
    log_probability: float
    no_speech_probability: float
    is_translation: bool

    @property
    def is_silence(self) -> bool:
        return self.no_speech_probability > _SURELY_NO_SPEECH_PROBABILITY or (
            self.no_speech_probability > _NO_SPEECH_PROBABILITY
            and self.log_probability < _UNLIKELY_LOG_PROBABILITY
        )

    @property
    def is_doubtful(self) -> bool:
        data = self.text.encode()
        # There are many ways to say it in another language: no way is likely.
        unlikely = self.log_probability < _UNLIKELY_LOG_PROBABILITY and not self.is_translation
        return self.cut_off or unlikely or len(data) > _REPETITIVE_RATIO * len(zlib.compress(data))


@dataclass(frozen=True, slots=True)
class _Listened:
    """All of a clip; the language is None when nobody spoke."""

    text: str
    segments: tuple[Segment, ...]
    tokens: int
    language: str | None
    is_sure: bool


class _Encoding:
    """The encoder's last output: it costs most, and a translation needs the same again."""

    def __init__(self) -> None:
        self._samples: Samples | None = None
        self._encoded: Any = None

    def of(self, samples: Samples, encode: Callable[[], Any]) -> Any:
        if self._samples is not samples:
            self._samples, self._encoded = samples, encode()
        return self._encoded


class Recogniser:
    """A loaded Whisper model.

    Args:
        folder: The model as CTranslate2 stores it, with `tokenizer.json`.
        threads: For matrix products.

    Raises:
        EngineError: A package or a file is missing.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:  # faster-whisper would fetch a tokenizer from the hub without asking
            raise EngineError(f"the recogniser has no {', '.join(missing)} in {folder}")
        os.environ["HF_HUB_OFFLINE"] = "1"
        try:
            from faster_whisper import WhisperModel  # noqa: PLC0415  # an optional extra
        except ImportError as error:
            raise EngineError(
                f"the embedded engine needs its extra ({error}): pip install 'voice-agent[small]'"
            ) from error
        self._whisper = WhisperModel(
            str(folder), device="cpu", compute_type="int8", cpu_threads=threads
        )
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}

    def hear(
        self,
        samples: Samples,
        language: str | None = None,
        expected: str | None = None,
        *,
        draft: bool = False,
        translate: bool = False,
    ) -> Heard:
        """Recognise one clip.

        Args:
            samples: float32[T], mono, 16 kHz, shorter than 30 s.
            language: BCP-47 code of what is spoken; None to detect it.
            expected: What the speaker spoke before: used when detection is unsure.
            draft: Quickly: the clip is not over and will be heard again. Doubtful words are
                left out.
            translate: Whether to say it in English too, in a second decoding; not in a draft.

        Raises:
            Unsupported: Whisper does not know the language.
        """
        if language is not None:
            language = self._known(language)
        encoding = _Encoding()
        translate = translate and not draft
        task = _DRAFT if draft else _TRANSCRIBE if translate else _HEAR
        said = self._listen(samples, language, expected, encoding, task)
        audio_tokens = -(-samples.size // SAMPLES_PER_TOKEN)
        sure = said.language if said.is_sure else None
        if not translate:
            segments = said.segments if draft else ()
            return Heard(said.text, audio_tokens, said.tokens, sure, segments=segments)
        if not said.text or said.language == _ENGLISH:
            return Heard(said.text, audio_tokens, said.tokens, sure, said.text)
        meant = self._listen(samples, said.language, None, encoding, _TRANSLATE)
        return Heard(said.text, audio_tokens, said.tokens + meant.tokens, sure, meant.text)

    def _listen(
        self,
        samples: Samples,
        language: str | None,
        expected: str | None,
        encoding: _Encoding,
        task: _Task,
    ) -> _Listened:
        """All of a clip, in as many decodings as it takes to get to its end."""
        texts: list[str] = []
        segments: list[Segment] = []
        tokens, start = 0, 0
        spoken: tuple[str | None, bool] = (None, False)
        while start < samples.size:
            rest = samples[start:] if start else samples
            if np.abs(rest).max() < _AUDIBLE_PEAK:
                break
            attempt, found = self._hear_once(rest, language, expected, encoding, task)
            tokens += attempt.tokens
            if attempt.is_silence or (task.is_draft and attempt.is_doubtful):
                break
            texts.append(attempt.text)
            segments += [Segment(one.text, start + one.end_sample) for one in attempt.segments]
            if not spoken[1]:
                spoken = found
            unheard = rest.size - attempt.heard_samples
            if unheard < _UNHEARD_SAMPLES or attempt.heard_samples < _UNHEARD_SAMPLES:
                break
            start += attempt.heard_samples
        return _Listened(" ".join(filter(None, texts)), tuple(segments), tokens, *spoken)

    def _hear_once(
        self,
        samples: Samples,
        language: str | None,
        expected: str | None,
        encoding: _Encoding,
        task: _Task,
    ) -> tuple[_Attempt, tuple[str, bool]]:
        """The better of at most two attempts; the language, and whether that is no guess."""
        window_s = samples.size / SAMPLE_RATE_HZ
        window_s += _DRAFT_PADDING_S if task.is_draft else _PADDING_S
        encoded = encoding.of(samples, lambda: self._encode(samples, window_s))
        spoken, sure = self._language(encoded, language, expected)
        attempt = self._decode(encoded, samples.size, spoken, task)
        if attempt.is_doubtful and task is _TRANSLATE:
            attempt = self._decode(encoded, samples.size, spoken, _TRANSLATE_AGAIN)
        elif attempt.is_doubtful and not (attempt.is_silence or task.is_draft):
            again = self._decode(self._encode(samples, _WINDOW_S), samples.size, spoken, task)
            if again.is_silence or not again.is_doubtful:
                attempt = again
        return attempt, (spoken, sure)

    def _encode(self, samples: Samples, window_s: float) -> Any:
        """Encoder output of a clip, padded with silence to a window of at most 30 s."""
        window_samples = int(min(window_s, _WINDOW_S) * SAMPLE_RATE_HZ)
        padded = np.pad(samples, (0, max(0, window_samples - samples.size)))
        frames = self._whisper.feature_extractor(padded)[:, : padded.size // 160 // 2 * 2]
        return self._whisper.encode(frames)

    def _language(
        self, encoded: Any, language: str | None, expected: str | None
    ) -> tuple[str, bool]:
        """What is spoken, and whether that is more than a guess."""
        if language is not None:
            return language, True
        token, probability = self._whisper.model.detect_language(encoded)[0][0]
        if probability >= _SURE_OF_LANGUAGE:
            return token.strip("<|>"), True
        return expected or token.strip("<|>"), False

    def _decode(self, encoded: Any, samples: int, language: str, task: _Task) -> _Attempt:
        from faster_whisper.transcribe import get_suppressed_tokens  # noqa: PLC0415

        tokenizer = self._tokenizer(language, task.name)
        prompt = self._whisper.get_prompt(tokenizer, [], without_timestamps=False)
        most_tokens = samples * _TOKENS_PER_S // SAMPLE_RATE_HZ + _EXTRA_TOKENS
        limit = min(len(prompt) + most_tokens, self._whisper.max_length)
        (result,) = self._whisper.model.generate(
            encoded,
            [prompt],
            beam_size=task.beam_size,
            no_repeat_ngram_size=task.no_repeat,
            max_length=limit,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
        )
        tokens = result.sequences_ids[0]
        times = [token for token in tokens if token >= tokenizer.timestamp_begin]
        heard = samples
        if times and tokens[-1] >= tokenizer.timestamp_begin:  # else words go on to the end
            heard = (max(times) - tokenizer.timestamp_begin) * SAMPLES_PER_TOKEN
        return _Attempt(
            text=tokenizer.decode(tokens).strip(),
            segments=_segments(tokens, tokenizer, samples),
            tokens=len(tokens),
            heard_samples=heard,
            cut_off=len(prompt) + len(tokens) >= limit,
            log_probability=result.scores[0] * len(tokens) / (len(tokens) + 1),
            no_speech_probability=result.no_speech_prob,
            is_translation=task.name == _TRANSLATE.name,
        )

    def _known(self, language: str) -> str:
        """Whisper's code for a BCP-47 code."""
        code = language.replace("_", "-").partition("-")[0].lower()
        code = _ALIASES.get(code, code)
        if code not in self._whisper.supported_languages:
            raise Unsupported(f"the recogniser knows no language {language!r}")
        return code

    def _tokenizer(self, language: str, task: str) -> Tokenizer:
        from faster_whisper.tokenizer import Tokenizer  # noqa: PLC0415

        if (language, task) not in self._tokenizers:
            self._tokenizers[language, task] = Tokenizer(
                self._whisper.hf_tokenizer, multilingual=True, task=task, language=language
            )
        return self._tokenizers[language, task]


def _segments(tokens: list[int], tokenizer: Tokenizer, samples: int) -> tuple[Segment, ...]:
    """The text between timestamps; what has none after it ends with the clip."""
    segments: list[Segment] = []
    text: list[int] = []
    for token in [*tokens, None]:
        if token is not None and token < tokenizer.timestamp_begin:
            text.append(token)
        elif text:
            end = samples
            if token is not None:
                end = min(samples, (token - tokenizer.timestamp_begin) * SAMPLES_PER_TOKEN)
            segments.append(Segment(tokenizer.decode(text).strip(), end))
            text = []
    return tuple(segments)
