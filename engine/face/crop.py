"""The stable crop around the lower face.

A crop that follows every tremor of the tracker makes the picture inside it tremble. The box therefore stays
put, in whole pixels, while the face moves inside a dead zone, and glides when the face leaves it.
"""

from dataclasses import dataclass

import numpy as np

from engine.arrays import F32
from engine.face.model import Pose
from engine.image.resize import Square

CENTRE_CM = np.array([0.0, 5.6, -2.0])  # middle of nose tip, open jaw and cheeks, in the canonical frame
SIDE_CM = 15.2
DEAD_ZONE = 0.05  # of the side: how far the face may move before the box follows
SIZE_DEAD_ZONE = 0.08
GLIDE = 0.25  # share of the excess that one frame takes back
JUMP = 0.5  # of the side: beyond this the box moves at once (a cut)


@dataclass(frozen=True, slots=True)
class CropBox:
    """A square box in a picture: centre and side in px, float; `square` is its even-aligned pixel form."""

    centre_x_px: float
    centre_y_px: float
    side_px: float

    @property
    def square(self) -> Square:
        """The even-aligned square of whole pixels; it may reach beyond the picture."""
        side = max(16, 2 * round(self.side_px / 2))
        left = 2 * round((self.centre_x_px - side / 2) / 2)
        top = 2 * round((self.centre_y_px - side / 2) / 2)
        return Square(left, top, side)


def follow(previous: CropBox | None, pose: Pose) -> CropBox:
    """The next frame's box from the last one's (None at the start) and the frame's pose."""
    x, y, _ = pose.apply(CENTRE_CM)
    side = SIDE_CM * pose.scale_px
    wanted = CropBox(float(x), float(y), float(side))
    if previous is None:
        return wanted
    held = previous.side_px
    away = max(abs(x - previous.centre_x_px), abs(y - previous.centre_y_px), abs(side - held))
    if away > JUMP * held:
        return wanted
    return CropBox(
        _pull(previous.centre_x_px, float(x), DEAD_ZONE * held),
        _pull(previous.centre_y_px, float(y), DEAD_ZONE * held),
        _pull(held, float(side), SIZE_DEAD_ZONE * held),
    )


def jumped(before: CropBox, after: CropBox) -> bool:
    """Whether the box moved at once, as no head does between two frames."""
    x, y = after.centre_x_px - before.centre_x_px, after.centre_y_px - before.centre_y_px
    away = max(abs(x), abs(y), abs(after.side_px - before.side_px))
    return away > JUMP / 2 * before.side_px


def _pull(held: float, wanted: float, slack: float) -> float:
    excess = wanted - held
    if abs(excess) <= slack:
        return held
    return held + GLIDE * (excess - slack if excess > 0 else excess + slack)


def to_crop(points: F32, square: Square, size_px: int) -> F32:
    """Picture points [..., 3] px in the px of the crop of `size_px` that shows `square`."""
    scale = np.float32(size_px / square.side_px)
    moved = points - np.array([square.x, square.y, 0], np.float32)
    return (moved * scale).astype(np.float32)


def crop_pose(pose: Pose, square: Square, size_px: int) -> Pose:
    """The pose as seen in the crop of `size_px` that shows `square`."""
    scale = size_px / square.side_px
    moved = (pose.translation_px - [square.x, square.y, 0.0]) * scale
    return Pose(pose.scale_px * scale, pose.rotation, moved)
