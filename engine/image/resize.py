"""Cutting a square out of a picture, whole or in planes, at another size."""

from dataclasses import dataclass

import cv2
import numpy as np

from engine.arrays import U8, Array
from engine.image.yuv import I420, Box, Colour, roi_to_rgb, to_rgb_affine


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


def read_square(image: I420, square: Square, colour: Colour, size_px: int) -> U8 | None:
    """An even-aligned square of a frame as RGB [size_px, size_px, 3]; None where it is outside the picture.

    What lies outside repeats the border. A square that shrinks is shrunk plane by plane before its colours
    are computed: the same to a grey level or two, as the colours are linear in the planes, and less work.
    """
    part = inside(square, image.width, image.height)
    if part is None:
        return None
    if square.side_px <= size_px:
        return np.asarray(resize(pad_to(roi_to_rgb(image, part, colour), part, square), size_px), np.uint8)
    planes = [
        read_plane(plane, part, square, step, size_px)
        for plane, step in ((image.y, 1), (image.u, 2), (image.v, 2))
    ]
    return np.asarray(cv2.transform(cv2.merge(planes), to_rgb_affine(colour)), np.uint8)


def read_plane(plane: U8, part: Box, square: Square, step: int, size_px: int) -> U8:
    """An even-aligned square of a frame's plane, uint8 [size_px, size_px]; outside, the border repeats.

    Args:
        plane: uint8, the whole frame's, which has one sample per `step` px.
        part: of the square inside the frame.
        square: as for `read_square`.
        step: 1 for luma, 2 for chroma.
        size_px: side of the result, samples.
    """
    end_y, end_x = -(-(part.y + part.height) // step), -(-(part.x + part.width) // step)
    piece: Array = plane[part.y // step : end_y, part.x // step : end_x]
    side, (height, width) = square.side_px // step, piece.shape
    top, left = (part.y - square.y) // step, (part.x - square.x) // step
    if (height, width) != (side, side):
        bottom, right = side - top - height, side - left - width
        piece = cv2.copyMakeBorder(piece, top, bottom, left, right, cv2.BORDER_REPLICATE)
    how = cv2.INTER_AREA if side > size_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(piece, (size_px, size_px), interpolation=how), np.uint8)


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
