"""Ramps, so that sound that is cut does not click."""

import numpy as np

from engine.arrays import F32

CUT_FADE_SAMPLES = 240  # 5 ms
INTERRUPT_FADE_SAMPLES = 480  # 10 ms


def ramp_down(count: int) -> F32:
    """Float32 [count], a half cosine from just below 1 to 0."""
    down = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, count + 1) / count)
    return down.astype(np.float32)


_CUT_DOWN = ramp_down(CUT_FADE_SAMPLES)
_CUT_UP = _CUT_DOWN[::-1].copy()


class Seam:
    """Closes the edges of a stream that stops and goes on without warning.

    Where it stops, its last value dies away within 5 ms; where it goes on, it rises within 5 ms.
    """

    def __init__(self) -> None:
        self._last, self._left, self._rises = 0.0, 0, 0

    def stop(self, last: float, *, rises: bool = True) -> None:
        """The stream has stopped at the value `last`; with `rises` it will go on in mid-sound."""
        self._last, self._left, self._rises = last, CUT_FADE_SAMPLES, CUT_FADE_SAMPLES if rises else 0

    @property
    def silent(self) -> bool:
        """Whether nothing is left to die away."""
        return self._left == 0 or self._last == 0.0

    def fill(self, block: F32, start: int) -> None:
        """Write what dies away into block[start:], which is silent."""
        count = min(self._left, block.size - start)
        if count > 0:
            at = CUT_FADE_SAMPLES - self._left
            block[start : start + count] += np.float32(self._last) * _CUT_DOWN[at : at + count]
            self._left -= count

    def rise(self, samples: F32) -> F32:
        """The stream's next samples, quieter if they follow on a stop; the input is not written."""
        if self._rises == 0:
            return samples
        count, at = min(self._rises, samples.size), CUT_FADE_SAMPLES - self._rises
        self._rises -= count
        risen = samples.copy()
        risen[:count] *= _CUT_UP[at : at + count]
        return risen
