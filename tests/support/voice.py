"""Sound made up for tests, at the rate that dubbing works on."""

import numpy as np

from engine.arrays import F32
from engine.timing import AUDIO_RATE_HZ


def voice(seconds: float, seed: int = 0) -> F32:
    """Something that the speech detector takes for a voice: pulses at 120 Hz through two resonances."""
    count = round(seconds * AUDIO_RATE_HZ)
    time_s = np.arange(count) / AUDIO_RATE_HZ
    phase = 2 * np.pi * (120 * time_s + 3 * np.sin(2 * np.pi * 3 * time_s + seed))
    buzz = sum(
        np.sin(k * phase) * np.exp(-((k * 120 - f) ** 2) / 4e4) for k in range(1, 25) for f in (600, 1400)
    )
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_s)
    return np.asarray(0.2 * buzz * swell, np.float32)


def silence(seconds: float) -> F32:
    return np.zeros(round(seconds * AUDIO_RATE_HZ), np.float32)
