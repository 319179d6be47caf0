"""Whisper's log-mel features of a whole window of sound.

What `WhisperFeatureExtractor` of transformers computes with `do_normalize=True`, in its
order: samples brought to mean 0 and deviation 1, a Hann window of 25 ms every 10 ms, mirrored
at both ends, 80 mel bands on Slaney's scale, logarithms of base 10 cut at 8 below the highest.
Sources: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision",
section 2.2, and Slaney's Auditory Toolbox for the scale.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from agent.audio.pcm import SAMPLE_RATE_HZ, Samples

BINS = 80
HOP_SAMPLES = 160
_WINDOW_SAMPLES = 400

_ENERGY_FLOOR = 1e-10
_VARIANCE_FLOOR = 1e-7
_RANGE = 8.0  # decades below the loudest that are told apart

# Slaney's scale: linear up to 1 kHz, where it reaches 15, logarithmic above.
_BREAK_HZ = 1000.0
_BREAK_MEL = 15.0
_HZ_A_MEL = _BREAK_HZ / _BREAK_MEL
_LOG_STEP = math.log(6.4) / 27.0


def whisper_log_mel(samples: Samples) -> NDArray[np.float32]:
    """Features of a window of sound.

    Args:
        samples: float32[T], mono, 16 kHz, T at least 201; not written to.

    Returns:
        float32[80, T // 160].
    """
    deviation = np.sqrt(samples.var() + np.float32(_VARIANCE_FLOOR))
    normal = (samples - samples.mean()) / deviation
    padded = np.pad(normal, _WINDOW_SAMPLES // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::HOP_SAMPLES]
    # The last window starts where the sound ends; Whisper leaves it out.
    spectrum = np.fft.rfft(windows[: len(samples) // HOP_SAMPLES] * _hann(), axis=-1)
    power = spectrum.real**2 + spectrum.imag**2
    logs = np.log10(np.maximum(_filters() @ power.T, _ENERGY_FLOOR))
    logs = np.maximum(logs, logs.max() - _RANGE)
    return np.asarray((logs + 4.0) / 4.0, np.float32)


@cache
def _hann() -> NDArray[np.float32]:
    """float32[400], periodic."""
    return np.hanning(_WINDOW_SAMPLES + 1)[:-1].astype(np.float32)


@cache
def _filters() -> NDArray[np.float32]:
    """float32[80, 201]: triangles between the neighbours' peaks, each of area 1."""
    peaks_hz = _to_hz(np.linspace(0.0, _to_mel(SAMPLE_RATE_HZ / 2), BINS + 2))
    bins_hz = np.linspace(0.0, SAMPLE_RATE_HZ / 2, _WINDOW_SAMPLES // 2 + 1)
    from_peak_hz = peaks_hz[:, None] - bins_hz
    widths_hz = np.diff(peaks_hz)[:, None]
    rising = -from_peak_hz[:-2] / widths_hz[:-1]
    falling = from_peak_hz[2:] / widths_hz[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    areas = 2.0 / (peaks_hz[2:] - peaks_hz[:-2])
    return (triangles * areas[:, None]).astype(np.float32)


def _to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _HZ_A_MEL
    return _BREAK_MEL + math.log(hz / _BREAK_HZ) / _LOG_STEP


def _to_hz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithmic = _BREAK_HZ * np.exp(_LOG_STEP * (np.maximum(mels, _BREAK_MEL) - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _HZ_A_MEL, logarithmic)
