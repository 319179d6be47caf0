"""Has the speaker finished? Smart Turn, on the sound of the turn so far.

Nothing is loaded at import. Source: Smart Turn v3.1 (https://github.com/pipecat-ai/smart-turn),
Whisper tiny's encoder with a classifier on top, trained to be asked at the beginning of a
pause, after about 200 ms of silence.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from agent.audio.denoise import loudness_over_noise_db, reduce_noise
from agent.audio.pcm import SAMPLE_RATE_HZ, SAMPLES_PER_MS, Samples
from agent.audio.whisper_mel import whisper_log_mel
from agent.config import TurnScorerName
from agent.models.store import ModelStore
from agent.vad.scorers import one_thread_session

TURN_SAMPLES = 8 * SAMPLE_RATE_HZ
"""How much of the end of a turn is looked at."""

_PAUSE_SAMPLES = 192 * SAMPLES_PER_MS
"""Silence at the end of what Smart Turn hears: about the 200 ms that it was trained with."""

_NOISE_SAMPLES = (184 * SAMPLES_PER_MS, 16 * SAMPLES_PER_MS)
"""From and to how long before the end only the room is heard: most of the pause."""

_NOISY_DB = 18.0
"""Speech that stands out less than by so much is in noise."""

SMART_TURN_FILE = "smart-turn-v3.1-cpu.onnx"


class TurnScorer(ABC):
    """Scores pauses; may be asked from several threads at once."""

    @abstractmethod
    def score(self, samples: Samples) -> float:
        """How likely it is that the speaker has finished.

        Args:
            samples: float32[T], mono, 16 kHz: the turn from its beginning to now, the silence
                of the pause included. Of more than `TURN_SAMPLES` the last ones count.

        Returns:
            A probability in [0, 1].
        """


class SmartTurnScorer(TurnScorer):
    """Smart Turn v3.1 through onnxruntime, on the thread that asks; about 80 ms of CPU.

    A batch of four costs as much as four calls, so there is none.

    Raises:
        ConfigError: onnxruntime is not installed.
        ModelStoreError: There is no such file.
    """

    def __init__(self, model_path: Path) -> None:
        self._session = one_thread_session(model_path, "Smart Turn", setting="turns.scorer")
        # The first run is the slowest: nobody shall wait for it.
        self.score(np.zeros(TURN_SAMPLES, np.float32))

    def score(self, samples: Samples) -> float:
        """See `TurnScorer.score`."""
        features = whisper_log_mel(_last_window(quieter(samples)))[None]  # (1, 80, 800)
        (probabilities,) = self._session.run(None, {"input_features": features})
        return float(probabilities[0, 0])


def as_in_pause(samples: Samples, silence_samples: int) -> Samples:
    """A turn that has just fallen silent, as it will sound after the silence of a pause.

    The room goes on as it was: the silence there is, backwards and forwards. So a score that
    takes a while is there when the pause is.

    Args:
        samples: float32[T], mono, 16 kHz, T at least 1; not written to.
        silence_samples: So many of the last ones are silence, at least one.

    Returns:
        float32[at most TURN_SAMPLES]; the same ones where nothing is missing.
    """
    missing = _PAUSE_SAMPLES - silence_samples
    if missing <= 0:
        return samples
    silence = samples[-silence_samples:]
    more = np.pad(silence, (0, missing), "reflect")[len(silence) :]
    return np.concatenate((samples, more))[-TURN_SAMPLES:]


def smart_turn_path() -> Path:
    """Where the model store has Smart Turn; fetches nothing.

    Raises:
        ModelStoreError: It is not there; the message says how to fetch it.
    """
    return ModelStore().file("smart-turn", SMART_TURN_FILE)


def can_run(name: TurnScorerName) -> bool:
    """Whether a scorer of that name is wanted and what it needs is installed."""
    if name is TurnScorerName.AUTO:
        return importlib.util.find_spec("onnxruntime") is not None
    return name is TurnScorerName.SMART_TURN


def quieter(samples: Samples) -> Samples:
    """A turn with less noise, if there is much: it makes Smart Turn call pauses ends.

    What there is of it is heard in the pause at the end.

    Args:
        samples: As for `TurnScorer.score`.
    """
    begin, end = _NOISE_SAMPLES
    if len(samples) <= 2 * begin:
        return samples
    noise = samples[-begin:-end]
    if loudness_over_noise_db(samples, noise) >= _NOISY_DB:
        return samples
    return reduce_noise(samples, noise)


def _last_window(samples: Samples) -> Samples:
    """float32[128000]: the last ones, silence before them if they are fewer."""
    missing = TURN_SAMPLES - len(samples)
    if missing > 0:
        return np.pad(samples, (missing, 0))
    return samples[-TURN_SAMPLES:]
