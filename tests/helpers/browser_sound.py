"""Sound that came out of a browser, compared with the recording that its microphone played."""

from __future__ import annotations

import numpy as np

PIECE_BYTES = 40 * 48  # 40 ms of PCM16 at 24 kHz

WITHOUT_PROCESSING = """
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = (constraints) => {
  window.asked = constraints;
  return open({ audio: {
    echoCancellation: false, noiseSuppression: false, autoGainControl: false,
  } });
};
"""
"""The browser's own processing changes phases and loudness: without it sound can be compared."""

# Sound that can be told from the noise between words.
_MIN_LEVEL = 0.003


def follow(heard: np.ndarray, original: np.ndarray) -> list[float | None]:
    """Where each window of `heard` that has sound in it stands in `original`.

    Both float64[T] at 24 kHz. Gives a lag for each window in ms (its place in the original
    less its place in what was heard), or None where none correlates by more than 0.9.
    """
    size = 3 * PIECE_BYTES // 2  # 120 ms
    places = len(original) - size + 1
    sums = np.concatenate([[0.0], np.cumsum(original**2)])
    energy = sums[size:] - sums[:places]
    # Correlated by their spectra: directly it takes a quarter of a second a window.
    length = 1 << (len(original) - 1).bit_length()
    spectrum = np.fft.rfft(original, length)
    lags_ms: list[float | None] = []
    for start in range(0, len(heard) - size, size):
        window = heard[start : start + size]
        if np.sqrt(np.mean(window**2)) < _MIN_LEVEL:
            continue
        product = np.fft.irfft(spectrum * np.fft.rfft(window, length).conj(), length)[:places]
        scores = product / np.sqrt(np.maximum(energy, 1e-9) * np.sum(window**2))
        place = int(np.argmax(scores))
        lags_ms.append((place - start) / 24 if scores[place] > 0.9 else None)
    return lags_ms
