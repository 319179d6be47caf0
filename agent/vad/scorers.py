"""Is this frame speech? Silero, WebRTC VAD, and a cascade of both, batched over sessions.

A scorer holds the model, a state what it remembers of one session. One call scores one
frame of each of N different sessions: that is what makes hundreds of microphones cheap.
Nothing is loaded at import.

Sources: Silero VAD 6 (https://github.com/snakers4/silero-vad) and WebRTC's VAD
(`webrtcvad-wheels`).
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import structlog
import webrtcvad
from numpy.typing import NDArray

from agent.audio.framing import FRAME_SAMPLES
from agent.audio.pcm import SAMPLE_RATE_HZ, Samples, to_int16
from agent.config import ScorerName
from agent.errors import ConfigError, ModelStoreError
from agent.models.store import ModelStore

Probabilities: TypeAlias = NDArray[np.float32]
"""float32[N] in [0, 1]."""

StateT = TypeVar("StateT")

QUIET_DBFS = -85.0
"""Below this a frame is silence and no model is asked, which makes muted microphones free.
It is 16 dB above the noise of 16-bit samples. At -70 the cascade lost 1.4 s more of 80 s of
very quiet speech (-65 dBFS); at a usual level (-25 dBFS) both lose nothing."""

_QUIET_POWER = 10.0 ** (QUIET_DBFS / 10.0)

log = structlog.get_logger(__name__)


class Scorer(ABC, Generic[StateT]):
    """Scores frames. States are made here and belong to one session each."""

    @abstractmethod
    def new_state(self) -> StateT:
        """What is remembered of a session that has just begun."""

    @abstractmethod
    def score(self, states: Sequence[StateT], frames: Samples) -> Probabilities:
        """Score the next frame of each of N different sessions.

        Args:
            states: N distinct states; they are advanced by this frame.
            frames: float32[N, 512], 16 kHz; not written to afterwards.

        Returns:
            float32[N]: the probability that each frame is speech.
        """


def one_thread_session(model_path: Path, name: str, *, setting: str) -> Any:
    """An onnxruntime session that computes on the thread that calls it.

    Args:
        model_path: The ONNX file.
        name: Of the model, for people.
        setting: The setting that asked for it.

    Raises:
        ConfigError: onnxruntime is not installed.
        ModelStoreError: There is no such file.
    """
    try:
        import onnxruntime as ort  # noqa: PLC0415  # an extra, and slow to import
    except ImportError as error:
        raise ConfigError(
            f"{setting}: {name} needs onnxruntime: pip install 'voice-agent[small]'"
        ) from error
    if not model_path.is_file():
        raise ModelStoreError(f"there is no {name} model at {model_path}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Without it sums of 8-bit products saturate on processors with AVX2 but without VNNI, and a
    # quantised model says something else there: Smart Turn 0.07 in place of 0.83.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])


@dataclass(slots=True)
class SileroState:
    """The network's memory of one session."""

    recurrent: Samples = field(default_factory=lambda: np.zeros((2, 128), dtype=np.float32))
    context: Samples = field(default_factory=lambda: np.zeros(64, dtype=np.float32))


class SileroScorer(Scorer[SileroState]):
    """Silero VAD through onnxruntime, on one thread; about 60 µs a frame in batches.

    Raises:
        ConfigError: onnxruntime is not installed.
        ModelStoreError: There is no such file.
    """

    _CONTEXT_SAMPLES = 64

    def __init__(self, model_path: Path) -> None:
        self._session = one_thread_session(model_path, "Silero", setting="vad.scorer")
        self._rate = np.array(SAMPLE_RATE_HZ, dtype=np.int64)

    def new_state(self) -> SileroState:
        """All zeros, as the model was trained."""
        return SileroState()

    def score(self, states: Sequence[SileroState], frames: Samples) -> Probabilities:
        """See `Scorer.score`; one run of the network for all."""
        recurrent = np.stack([state.recurrent for state in states], axis=1)  # (2, N, 128)
        context = np.stack([state.context for state in states])  # (N, 64)
        audio = np.concatenate((context, frames), axis=1)  # (N, 576)
        output, recurrent = self._session.run(
            None, {"input": audio, "state": recurrent, "sr": self._rate}
        )
        for index, state in enumerate(states):
            # Copies: a view would keep the whole batch alive while its session is silent.
            state.recurrent = recurrent[:, index].copy()
            state.context = audio[index, -self._CONTEXT_SAMPLES :].copy()
        probabilities: Probabilities = output[:, 0]
        return probabilities


@dataclass(slots=True)
class WebRtcState:
    """WebRTC's detector of one session, and the samples that fill no 10 ms yet."""

    detector: webrtcvad.Vad
    rest: bytes = b""


class WebRtcScorer(Scorer[WebRtcState]):
    """WebRTC's detector: the share of a frame's 10 ms pieces that it calls voiced.

    Costs about 6 µs a frame, next to nothing below `QUIET_DBFS`. It takes music and many
    noises for speech.

    Args:
        mode: 0 (finds all speech) … 3 (finds little noise).
    """

    _PIECE_BYTES = SAMPLE_RATE_HZ // 100 * 2

    def __init__(self, mode: int = 2) -> None:
        self._mode = mode

    def new_state(self) -> WebRtcState:
        """A detector that has heard nothing yet."""
        return WebRtcState(webrtcvad.Vad(self._mode))

    def score(self, states: Sequence[WebRtcState], frames: Samples) -> Probabilities:
        """See `Scorer.score`."""
        probabilities = np.zeros(len(states), dtype=np.float32)
        loud = np.flatnonzero(powers(frames) >= _QUIET_POWER)
        for index, pcm in zip(loud.tolist(), to_int16(frames[loud]), strict=True):
            probabilities[index] = self._voiced_share(states[index], pcm.tobytes())
        return probabilities

    def _voiced_share(self, state: WebRtcState, pcm: bytes) -> float:
        data = state.rest + pcm
        pieces, rest_bytes = divmod(len(data), self._PIECE_BYTES)
        end = len(data) - rest_bytes
        voiced = 0
        for start in range(0, end, self._PIECE_BYTES):
            piece = data[start : start + self._PIECE_BYTES]
            voiced += bool(state.detector.is_speech(piece, SAMPLE_RATE_HZ))
        state.rest = data[end:]
        return voiced / pieces


@dataclass(slots=True)
class CascadeState:
    """One session of the cascade.

    Attributes:
        gate: The cheap detector's state.
        silero: The good one's, as it was when it fell asleep.
        slept_through: The last frames that it was not run on.
        awake: Whether it is run. It is at first: its memory needs a second to settle.
        calm_frames: How long the gate found nothing.
    """

    gate: WebRtcState
    silero: SileroState
    slept_through: deque[Samples]
    awake: bool = True
    calm_frames: int = 0


class CascadeScorer(Scorer[CascadeState]):
    """Silero, run only where WebRTC's detector says that there may be speech.

    The gate is that detector in its most generous mode. When it finds anything voiced, the
    network catches up on the last second that it slept through and runs until the gate
    has found nothing and the network is sure of silence for a second. While it sleeps the
    probability is 0. Its memory is kept over the sleep: starting it afresh lost up to 8
    frames at the beginning of quiet speech, kept and caught up it loses none.
    """

    _CATCH_UP_FRAMES = 31  # 1 s; 10 frames gave other probabilities than no sleep at all
    _CALM_FRAMES = 31  # 1 s, longer than the pauses between words
    _SURE_SILENCE = 0.15
    _GATE_MODE = 0

    def __init__(self, silero: SileroScorer) -> None:
        self._silero = silero
        self._gate = WebRtcScorer(self._GATE_MODE)

    def new_state(self) -> CascadeState:
        """Awake, with nothing heard yet."""
        return CascadeState(
            self._gate.new_state(),
            self._silero.new_state(),
            deque(maxlen=self._CATCH_UP_FRAMES),
        )

    def score(self, states: Sequence[CascadeState], frames: Samples) -> Probabilities:
        """See `Scorer.score`."""
        may_be_speech = self._gate.score([state.gate for state in states], frames) > 0.0
        woken: list[CascadeState] = []
        awake: list[int] = []
        for index, (state, fired) in enumerate(zip(states, may_be_speech.tolist(), strict=True)):
            state.calm_frames = 0 if fired else state.calm_frames + 1
            if fired and not state.awake:
                state.awake = True
                woken.append(state)
            if state.awake:
                awake.append(index)
            else:
                state.slept_through.append(frames[index].copy())
        probabilities = np.zeros(len(states), dtype=np.float32)
        if not awake:
            return probabilities
        self._catch_up(woken)
        scores = self._silero.score([states[index].silero for index in awake], frames[awake])
        probabilities[awake] = scores
        for index, score in zip(awake, scores.tolist(), strict=True):
            state = states[index]
            if state.calm_frames >= self._CALM_FRAMES and score < self._SURE_SILENCE:
                state.awake = False
        return probabilities

    def _catch_up(self, woken: Sequence[CascadeState]) -> None:
        """Run the network over what each slept through, so that all end at the same frame."""
        longest = max((len(state.slept_through) for state in woken), default=0)
        for back in range(longest, 0, -1):
            behind = [state for state in woken if len(state.slept_through) >= back]
            self._silero.score(
                [state.silero for state in behind],
                np.stack([state.slept_through[-back] for state in behind]),
            )
        for state in woken:
            state.slept_through.clear()


def powers(frames: Samples) -> Samples:
    """Mean square of each frame: float32[N, 512] to float32[N]."""
    mean_squares: Samples = np.einsum("ij,ij->i", frames, frames) / np.float32(FRAME_SAMPLES)
    return mean_squares


def silero_model_path() -> Path:
    """Where the model store has Silero; fetches nothing.

    Raises:
        ModelStoreError: It is not there; the message says how to fetch it.
    """
    return ModelStore().file("silero-vad", "silero_vad.onnx")


def make_scorer(name: ScorerName, *, silero_path: Path | None = None) -> Scorer[Any]:
    """The scorer of that name; for AUTO the cascade if it can run here, else WebRTC.

    Args:
        name: The setting `vad.scorer`.
        silero_path: The network's file; None takes it from the model store.

    Raises:
        ConfigError: It needs onnxruntime, which is not installed.
        ModelStoreError: It needs Silero's file, which is not here.
    """
    if name is ScorerName.WEBRTC:
        return WebRtcScorer()
    if name is ScorerName.AUTO:
        if importlib.util.find_spec("onnxruntime") is None:
            log.info("vad_scorer", scorer="webrtc", reason="onnxruntime is not installed")
            return WebRtcScorer()
        try:
            silero_path = silero_path or silero_model_path()
        except ModelStoreError as error:
            log.info("vad_scorer", scorer="webrtc", reason=str(error))
            return WebRtcScorer()
    silero = SileroScorer(silero_path or silero_model_path())
    return silero if name is ScorerName.SILERO else CascadeScorer(silero)
