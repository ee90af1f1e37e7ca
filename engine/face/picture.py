"""A frame as the tracker looks at it: a thumbnail of all, the face at full size, and seldom the whole."""

import math
from typing import Protocol

import cv2
import numpy as np

from engine.arrays import F32, U8
from engine.face.detector import Region
from engine.image.yuv import I420, Box, Colour, roi_to_rgb, sparse_to_rgb

THUMBNAIL_SIZE = (36, 64)  # rows, columns
_MARGIN_PX = 2  # that interpolation reaches beyond a region


class Picture(Protocol):
    """What the tracker asks of a frame; uint8 [H, W, 3] R'G'B' each time, borrowed."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""

    def whole(self) -> U8:
        """All of it."""

    def around(self, region: Region) -> U8:
        """As large as the whole; good in and around the region, anything elsewhere."""

    def inside(self, box: Box) -> U8:
        """As large as the whole; good in the box, which lies in the picture, anything elsewhere."""

    def thumbnail(self) -> F32:
        """See `thumbnail`."""


class RgbPicture:
    """A frame that is R'G'B' already.

    Args:
        rgb: uint8 [H, W, 3]; borrowed.
    """

    def __init__(self, rgb: U8) -> None:
        self._rgb = rgb

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        return self._rgb.shape[0], self._rgb.shape[1]

    def whole(self) -> U8:
        """As given."""
        return self._rgb

    def around(self, region: Region) -> U8:
        """As given."""
        del region
        return self._rgb

    def inside(self, box: Box) -> U8:
        """As given."""
        del box
        return self._rgb

    def thumbnail(self) -> F32:
        """See `thumbnail`."""
        step_y, step_x = steps(*self._rgb.shape[:2])
        return thumbnail(self._rgb[step_y // 2 :: step_y, step_x // 2 :: step_x])


class FramePicture:
    """A decoded frame, of which only what is asked for is converted.

    Args:
        image: borrowed.
        colour: how its bytes are meant.
        scratch: uint8 [H, W, 3], the caller's, written to; what it held does not matter.
    """

    def __init__(self, image: I420, colour: Colour, scratch: U8) -> None:
        self._image, self._colour, self._scratch = image, colour, scratch
        self._complete = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        return self._image.height, self._image.width

    def whole(self) -> U8:
        """Converted at the first call."""
        if not self._complete:
            self._convert(Box(0, 0, self._image.width, self._image.height))
            self._complete = True
        return self._scratch

    def around(self, region: Region) -> U8:
        """The region's surroundings are converted, if they lie in the picture."""
        box = None if self._complete else _box_around(region, self._image.width, self._image.height)
        if box is not None:
            self._convert(box)
        return self._scratch

    def inside(self, box: Box) -> U8:
        """The box is converted."""
        if not self._complete:
            self._convert(box)
        return self._scratch

    def thumbnail(self) -> F32:
        """See `thumbnail`."""
        return thumbnail(sparse_to_rgb(self._image, *steps(*self._image.y.shape), self._colour))

    def _convert(self, box: Box) -> None:
        rows, columns = slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)
        self._scratch[rows, columns] = roi_to_rgb(self._image, box, self._colour)


def steps(height: int, width: int) -> tuple[int, int]:
    """How many pixels apart the rows and columns are that a thumbnail is made of."""
    rows, columns = THUMBNAIL_SIZE
    return max(1, height // (2 * rows)), max(1, width // (2 * columns))


def thumbnail(sparse: U8) -> F32:
    """Rows and columns `steps` apart as float32 [36, 64, 3] in 0..1; cheap, so not free of aliasing."""
    rows, columns = THUMBNAIL_SIZE
    small = cv2.resize(np.ascontiguousarray(sparse), (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255)


def _box_around(region: Region, width: int, height: int) -> Box | None:
    turn = abs(math.cos(region.angle_rad)) + abs(math.sin(region.angle_rad))
    reach = region.side_px / 2 * turn + _MARGIN_PX
    left, top = (max(0, math.floor(n - reach)) for n in (region.x_px, region.y_px))
    right = min(width, math.ceil(region.x_px + reach) + 1)
    bottom = min(height, math.ceil(region.y_px + reach) + 1)
    return Box(left, top, right - left, bottom - top) if right > left and bottom > top else None
