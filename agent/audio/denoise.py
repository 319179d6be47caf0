"""A steady noise made quieter, by as much as its spectrum in a place without speech tells.

Spectral subtraction with over-subtraction and a floor (Berouti, Schwartz and Makhoul 1979,
"Enhancement of speech corrupted by acoustic noise"). It is gentle: nothing gets quieter than
by 12 dB, so that what is left sounds like a quieter room and not like none.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from agent.audio.pcm import Samples

_WINDOW_SAMPLES = 512
_HOP_SAMPLES = 256
_OVERLAP = _WINDOW_SAMPLES // _HOP_SAMPLES
_OVER_SUBTRACTION = 4.0
_LOWEST_GAIN = 0.25
# Of a gain so much is left in the next window: faster, noise would be heard as tones.
_SLOWEST_FALL = 0.25
_SMOOTHED_BINS = 5
_LOUD_SHARE = 0.8
_SILENCE = 1e-12
# Applied before and after; its squares, half a window apart, add up to 1.
_SLOPES = np.sqrt(np.hanning(_WINDOW_SAMPLES + 1)[:-1]).astype(np.float32)


def reduce_noise(samples: Samples, noise: Samples) -> Samples:
    """Sound with less of a noise in it.

    Args:
        samples: float32[T], mono, 16 kHz; not written to.
        noise: float32[N], the noise alone, N at least 512.

    Returns:
        float32[T].
    """
    spectra = _spectra(np.pad(samples, _WINDOW_SAMPLES))
    power = np.square(np.abs(spectra))
    expected = np.square(np.abs(_spectra(noise))).mean(axis=0)
    expected = np.convolve(expected, np.full(_SMOOTHED_BINS, 1 / _SMOOTHED_BINS), "same")
    kept = 1 - _OVER_SUBTRACTION * expected / np.maximum(power, _SILENCE)
    gains = np.sqrt(np.maximum(kept, _LOWEST_GAIN**2))
    for before, gain in pairwise(gains):
        np.maximum(gain, before * _SLOWEST_FALL + gain * (1 - _SLOWEST_FALL), out=gain)
    return _joined(spectra * gains)[_WINDOW_SAMPLES : _WINDOW_SAMPLES + len(samples)]


def loudness_over_noise_db(samples: Samples, noise: Samples) -> float:
    """How far the louder parts of a sound are above a noise, in dB.

    Args:
        samples: float32[T], mono, 16 kHz, T at least 512.
        noise: float32[N], the noise alone, N at least 1.
    """
    whole = len(samples) // _WINDOW_SAMPLES * _WINDOW_SAMPLES
    powers = np.square(samples[:whole]).reshape(-1, _WINDOW_SAMPLES).mean(axis=1)
    loud = max(float(np.quantile(powers, _LOUD_SHARE)), _SILENCE)
    return float(10 * np.log10(loud / max(float(np.mean(np.square(noise))), _SILENCE)))


def _spectra(samples: Samples) -> NDArray[np.complex64]:
    """complex64[windows, 257]; what fills no window at the end is left out."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW_SAMPLES)[::_HOP_SAMPLES]
    return np.fft.rfft(windows * _SLOPES).astype(np.complex64)


def _joined(spectra: NDArray[np.complex64]) -> Samples:
    """The sound whose `_spectra` these are; float32[(windows + 1) * 256]."""
    windows = np.fft.irfft(spectra, _WINDOW_SAMPLES).astype(np.float32) * _SLOPES
    parts = windows.reshape(len(windows), _OVERLAP, _HOP_SAMPLES)
    joined = np.zeros((len(windows) + _OVERLAP - 1, _HOP_SAMPLES), np.float32)
    for number in range(_OVERLAP):
        joined[number : number + len(windows)] += parts[:, number]
    return joined.reshape(-1)
