"""The compiled loop of `engine.composite.blend`, imported on first use because numba takes long to import."""

import numpy as np
from numba import njit

from engine.arrays import F32, U8


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def ring_difference(rgb: U8, source: U8, mask: F32, alpha: F32, strongest: np.float32, out: F32) -> None:
    """Sums over blocks of pixels, weighted by how much of a ramp the mask is there.

    Args:
        rgb: uint8 [S, S, 3].
        source: uint8 [S, S, 3].
        mask: float32 [S, S].
        alpha: float32 [S, S].
        strongest: differences are clipped to this.
        out: float32 [s, s, 4], written: three weighted sums of source - rgb, and the sum of the weights.
    """
    size, small = mask.shape[0], out.shape[0]
    out[:] = np.float32(0)
    for y in range(size):
        row = out[y * small // size]
        for x in range(size):
            weight = np.float32(4) * mask[y, x] * (np.float32(1) - mask[y, x])
            weight *= np.float32(1) - alpha[y, x]
            if weight > 0:
                block = row[x * small // size]
                for c in range(3):
                    difference = np.float32(source[y, x, c]) - np.float32(rgb[y, x, c])
                    block[c] += weight * min(max(difference, -strongest), strongest)
                block[3] += weight
