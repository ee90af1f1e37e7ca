"""What the GPU's kernels are held to where the product computes a step only as part of a larger one."""

import cv2
import numpy as np

from engine.arrays import F32, U8, Array
from engine.composite.blend import NO_RING, SMOOTH_SHARE
from engine.image.resize import Square, inside
from engine.image.yuv import I420, Box


def part_of(image: I420, square: Square) -> Box:
    """The part of a square inside the frame; there must be one."""
    part = inside(square, image.width, image.height)
    if part is None:
        raise ValueError(f"{square} lies outside {image}")
    return part


def planes_of(image: I420, part: Box) -> tuple[U8, U8, U8]:
    """A part's planes, views; chroma rounded up."""
    end_x, end_y = part.x + part.width, part.y + part.height
    half = slice(part.y // 2, (end_y + 1) // 2), slice(part.x // 2, (end_x + 1) // 2)
    return image.y[part.y : end_y, part.x : end_x], image.u[half], image.v[half]


def widened(field: F32, size_px: int) -> F32:
    """A coarse displacement at a crop's resolution: float32 [S, S, 2]."""
    return np.asarray(cv2.resize(field, (size_px, size_px), interpolation=cv2.INTER_LINEAR), np.float32)


def light_offset(sums: F32) -> F32:
    """What a picture's light is off by, grey levels [s, s, 3], from the ring's sums [s, s, 4]."""
    small = len(sums)
    blurred = cv2.GaussianBlur(sums, (0, 0), SMOOTH_SHARE * small, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred[..., :3] / (blurred[..., 3:] + NO_RING), np.float32)


def difference(got: Array, expected: Array) -> tuple[int, float]:
    """Greatest and mean difference of two pictures, grey levels."""
    off = np.abs(got.astype(int) - expected)
    return int(off.max()), float(off.mean())
