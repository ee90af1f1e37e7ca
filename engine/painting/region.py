"""The part of a frame that a device paints on: taken out, and put back.

A square longer than what the device holds goes there shrunk, and only what was painted comes back, widened.
Such a head is several times as large as the crop that the network draws: the mouth loses nothing by it, and
the skin beside keeps its own pixels. Refusing instead would end a session because somebody leans forward.
"""

import math
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from engine.arrays import F32, U8
from engine.image.resize import Square, inside, read_plane
from engine.image.yuv import I420, Box

Planes = tuple[U8, U8, U8]
STEPS = (1, 2, 2)  # luma px per sample of Y, U and V
SPREAD_SAMPLES = 2.0  # sigma of the soft edge of what comes back widened


@dataclass(frozen=True, slots=True)
class Region:
    """A square of a frame as a device sees it.

    Attributes:
        square: in the frame.
        part: of the square inside the frame.
        views: uint8, the part's planes, sharing the frame's memory.
        side: of the square on the device, luma px, even.
        x, y, width, height: of what is sent, luma px from the square's corner there.
    """

    square: Square
    part: Box
    views: Planes
    side: int
    x: int
    y: int
    width: int
    height: int

    @classmethod
    def of(cls, image: I420, square: Square, longest_side: int) -> Self | None:
        """The region of an even-aligned square; None if it lies outside the frame."""
        part = inside(square, image.width, image.height)
        if part is None:
            return None
        views = _views(image, part)
        if square.side_px <= longest_side:
            x, y = part.x - square.x, part.y - square.y
            return cls(square, part, views, square.side_px, x, y, part.width, part.height)
        side = square.side_px / math.ceil(square.side_px / longest_side)
        even = 2 * int(side // 2)
        return cls(square, part, views, even, 0, 0, even, even)

    @property
    def is_shrunk(self) -> bool:
        """Whether the device sees fewer pixels than the frame has."""
        return self.side != self.square.side_px

    def take(self, image: I420, into: Planes) -> None:
        """Copy what is sent to the top left of planes that are large enough."""
        for plane, view, target, step in zip(
            (image.y, image.u, image.v), self.views, into, STEPS, strict=True
        ):
            height, width = self._size(step)
            if self.is_shrunk:
                target[:height, :width] = read_plane(plane, self.part, self.square, step, self.side // step)
            else:
                target[:height, :width] = view

    def put_back(self, sent: Planes, painted: Planes) -> None:
        """Write what came back into the frame.

        Args:
            sent: the planes as `take` left them.
            painted: planes of the same size, what became of them.
        """
        for view, before, after, step in zip(self.views, sent, painted, STEPS, strict=True):
            height, width = self._size(step)
            if self.is_shrunk:
                self._widen(view, before[:height, :width], after[:height, :width], step)
            else:
                view[:] = after[:height, :width]

    def _size(self, step: int) -> tuple[int, int]:
        return -(-self.height // step), -(-self.width // step)

    def _widen(self, view: U8, before: U8, after: U8, step: int) -> None:
        changed = cv2.dilate(np.asarray(before != after, np.float32), np.ones((3, 3), np.uint8))
        share = cv2.GaussianBlur(changed, (0, 0), SPREAD_SAMPLES) * changed
        wide, much = (self._part_of(plane, step) for plane in (after.astype(np.float32), share))
        mixed = view + much * (wide - view)
        np.copyto(view, np.clip(np.rint(mixed), 0, 255).astype(np.uint8), where=much > 0)

    def _part_of(self, plane: F32, step: int) -> F32:
        """The part, at the frame's resolution, of a plane of the square."""
        side = self.square.side_px // step
        x, y = (self.part.x - self.square.x) // step, (self.part.y - self.square.y) // step
        height, width = -(-self.part.height // step), -(-self.part.width // step)
        wide = cv2.resize(plane, (side, side), interpolation=cv2.INTER_LINEAR)
        return np.asarray(wide[y : y + height, x : x + width], np.float32)


def _views(image: I420, part: Box) -> Planes:
    y, u, v = (
        plane[
            part.y // step : -(-(part.y + part.height) // step),
            part.x // step : -(-(part.x + part.width) // step),
        ]
        for plane, step in zip((image.y, image.u, image.v), STEPS, strict=True)
    )
    return y, u, v
