"""Cutting a square out of a picture, and putting it back at its size."""

import cv2
import numpy as np

from engine.arrays import U8, Array
from engine.image.yuv import Box


def inside(box: Box, width: int, height: int) -> Box:
    """The part of a box that lies in a picture of this size; zero-sized where they do not meet."""
    left, top = min(max(box.x, 0), width), min(max(box.y, 0), height)
    right, bottom = min(max(box.x + box.width, left), width), min(max(box.y + box.height, top), height)
    return Box(left, top, right - left, bottom - top)


def pad_to(picture: Array, part: Box, box: Box) -> Array:
    """The picture of `part` (inside `box`) extended to `box` by repeating its border."""
    left, top = part.x - box.x, part.y - box.y
    right, bottom = box.width - left - part.width, box.height - top - part.height
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


def cut(rgb: U8, box: Box, size_px: int) -> U8:
    """The box [size_px, size_px, 3] of a whole RGB picture [H, W, 3]; what lies outside repeats the border."""
    height, width = rgb.shape[:2]
    part = inside(box, width, height)
    piece = rgb[part.y : part.y + part.height, part.x : part.x + part.width]
    return np.asarray(resize(pad_to(piece, part, box), size_px), np.uint8)
