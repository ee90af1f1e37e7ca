"""Cutting a square out of a picture, and putting it back at its size."""

from dataclasses import dataclass

import cv2
import numpy as np

from engine.arrays import U8, Array
from engine.image.yuv import Box


@dataclass(frozen=True, slots=True)
class Square:
    """A square of whole pixels; unlike a `Box` it may reach beyond the picture."""

    x: int
    y: int
    side_px: int


def inside(square: Square, width: int, height: int) -> Box | None:
    """The part of an even-aligned square that lies in a picture of this size; None if there is none."""
    left, top = max(square.x, 0), max(square.y, 0)
    right, bottom = min(square.x + square.side_px, width), min(square.y + square.side_px, height)
    if right <= left or bottom <= top:
        return None
    return Box(left, top, right - left, bottom - top)


def pad_to(picture: Array, part: Box, square: Square) -> Array:
    """The picture of `part` (inside `square`) extended to `square` by repeating its border."""
    left, top = part.x - square.x, part.y - square.y
    right, bottom = square.side_px - left - part.width, square.side_px - top - part.height
    if not (left or top or right or bottom):
        return picture
    return np.asarray(cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_REPLICATE))


def resize(picture: Array, size_px: int) -> Array:
    """A square picture [H, H, C] at another size: area-averaged when it shrinks, bicubic when it grows.

    Args:
        picture: uint8 or float32.
        size_px: side of the result.
    """
    if picture.shape[0] == size_px:
        return picture
    how = cv2.INTER_AREA if picture.shape[0] > size_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (size_px, size_px), interpolation=how))


def cut(rgb: U8, square: Square, size_px: int) -> U8:
    """The square, as [size_px, size_px, 3], of an RGB picture [H, W, 3]; outside, the border is repeated.

    Raises:
        ValueError: square and picture do not meet.
    """
    height, width = rgb.shape[:2]
    part = inside(square, width, height)
    if part is None:
        raise ValueError(f"{square} lies outside a picture of {width} x {height} px")
    piece = rgb[part.y : part.y + part.height, part.x : part.x + part.width]
    return np.asarray(resize(pad_to(piece, part, square), size_px), np.uint8)
