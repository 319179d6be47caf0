"""Streaming log-mel features, equal to the checkpoint's offline feature extractor.

The extractor (`Gemma4AudioFeatureExtractor` in transformers) frames a clip semi-causally:
half a window of zeros is put before the first sample, frame *i* covers
`frame_length` samples ending at sample `hop * (i + 1)`, and it is valid only when the one
sample after them exists too. So everything here needs exactly one sample of lookahead and
`valid_frames` says how many frames a clip has; frames the extractor masks are never made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import ClipTooLong, Unsupported

Floats = NDArray[np.float32]

MAX_CLIP_S = 30
"""Gemma 4 hears clips shorter than this; its extractor cuts longer ones silently."""


@dataclass(frozen=True, slots=True)
class MelParameters:
    """What a checkpoint's feature extractor computes, read from its configuration.

    Attributes:
        rate_hz: Sample rate.
        frame_samples: Length of a window.
        hop_samples: Step between windows.
        fft_samples: Length of the Fourier transform; windows are padded to it on the right.
        window: float32[frame_samples].
        filters: float64[fft_samples // 2 + 1, bins].
        floor: Added to the mel energies before the logarithm.
        scale: Multiplied onto the samples.
        preemphasis: 0 for none.
        htk_preemphasis: Whether the first sample of a window is emphasised by itself.
        mean: float64[bins] subtracted from the logarithms, or None.
        deviation: float64[bins] they are divided by, or None.
    """

    rate_hz: int
    frame_samples: int
    hop_samples: int
    fft_samples: int
    window: Floats
    filters: NDArray[np.float64]
    floor: float
    scale: float = 1.0
    preemphasis: float = 0.0
    htk_preemphasis: bool = True
    mean: NDArray[np.float64] | None = None
    deviation: NDArray[np.float64] | None = None

    @classmethod
    def from_extractor(cls, extractor: Any) -> MelParameters:
        """Read the parameters of a transformers feature extractor.

        Raises:
            Unsupported: It adds random noise (dither), which no two runs share.
        """
        if extractor.dither > 0.0:
            raise Unsupported("a feature extractor with dither cannot be streamed exactly")

        def row(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
            return None if values is None else np.asarray(values, np.float64).reshape(-1)

        return cls(
            rate_hz=int(extractor.sampling_rate),
            frame_samples=int(extractor.frame_length),
            hop_samples=int(extractor.hop_length),
            fft_samples=int(extractor.fft_length),
            window=np.asarray(extractor.window, np.float32),
            filters=np.asarray(extractor.mel_filters, np.float64),
            floor=float(extractor.mel_floor),
            scale=float(extractor.input_scale_factor),
            preemphasis=float(extractor.preemphasis),
            htk_preemphasis=bool(extractor.preemphasis_htk_flavor),
            mean=row(extractor.per_bin_mean),
            deviation=row(extractor.per_bin_stddev),
        )

    @property
    def bins(self) -> int:
        """Number of mel bins."""
        return int(self.filters.shape[1])

    @property
    def lead_samples(self) -> int:
        """Zeros before the first sample of a clip."""
        return self.frame_samples // 2

    @property
    def max_clip_samples(self) -> int:
        """Exclusive upper bound on the length of a clip."""
        return MAX_CLIP_S * self.rate_hz

    def valid_frames(self, samples: int) -> int:
        """How many frames a clip of that many samples has."""
        available = samples + self.lead_samples - (self.frame_samples + 1)
        return available // self.hop_samples + 1 if available >= 0 else 0

    def samples_for(self, frames: int) -> int:
        """How many samples must be there before that many frames exist."""
        return (frames - 1) * self.hop_samples + self.frame_samples + 1 - self.lead_samples


def log_mel(parameters: MelParameters, padded: Floats) -> Floats:
    """Log-mel frames of samples that already carry what comes before the first frame.

    Args:
        parameters: What to compute.
        padded: float32[T]; frame *i* starts at sample `hop * i`.

    Returns:
        float32[frames, bins], one row for each whole frame and its lookahead sample.
    """
    size = parameters.frame_samples + 1
    if len(padded) < size:
        return np.zeros((0, parameters.bins), np.float32)
    # float32 throughout, filters float64: the same types at the same places as the extractor.
    scaled = padded * np.float32(parameters.scale) if parameters.scale != 1.0 else padded
    windows = np.lib.stride_tricks.sliding_window_view(scaled, size)[:: parameters.hop_samples]
    emphasis = parameters.preemphasis
    if emphasis > 0.0 and parameters.htk_preemphasis:
        first = windows[:, :1] * (1.0 - emphasis)
        frames = np.concatenate([first, windows[:, 1:-1] - emphasis * windows[:, :-2]], axis=-1)
    elif emphasis > 0.0:
        frames = windows[:, 1:] - emphasis * windows[:, :-1]
    else:
        frames = windows[:, :-1]
    spectrum = np.fft.rfft(frames * parameters.window, n=parameters.fft_samples, axis=-1)
    logs = np.log(np.abs(spectrum) @ parameters.filters + parameters.floor)
    if parameters.mean is not None:
        logs = logs - parameters.mean
    if parameters.deviation is not None:
        logs = logs / parameters.deviation
    return np.asarray(logs, np.float32)


class StreamingMel:
    """Log-mel of one clip as its samples arrive.

    `push` gives the frames that have become final, in order; together they are exactly the
    frames the extractor marks valid for the whole clip. There is no flush: a frame whose
    lookahead sample never came does not exist offline either.
    """

    def __init__(self, parameters: MelParameters) -> None:
        self._parameters = parameters
        self._tail = np.zeros(parameters.lead_samples, np.float32)
        self._samples = 0

    @property
    def samples(self) -> int:
        """Samples heard so far."""
        return self._samples

    def push(self, samples: Floats) -> Floats:
        """Take more samples of the clip.

        Args:
            samples: float32[T], mono, at the extractor's rate; any length.

        Returns:
            float32[frames, bins]; possibly no rows.

        Raises:
            ClipTooLong: The clip would reach 30 s; nothing was taken.
        """
        parameters = self._parameters
        total = self._samples + len(samples)
        if total >= parameters.max_clip_samples:
            raise ClipTooLong(
                f"a clip must stay under {MAX_CLIP_S} s; this one would have "
                f"{total / parameters.rate_hz:.3f} s: cut it first"
            )
        self._samples = total
        pending = np.concatenate([self._tail, np.asarray(samples, np.float32)])
        frames = log_mel(parameters, pending)
        self._tail = pending[len(frames) * parameters.hop_samples :].copy()
        return frames
