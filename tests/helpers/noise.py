"""Sound that is no speech, the same in every run."""

from __future__ import annotations

import numpy as np


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """White noise, float32[samples], at -20 dBFS."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(samples)).astype(np.float32)
