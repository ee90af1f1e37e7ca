"""Showing a drawn mouth a second time, on a head that has hardly moved since: a tenth of drawing it anew."""

import cv2
import numpy as np

from engine.arrays import F32, Array
from engine.face.model import Pose
from engine.render.renderer import Rendered

MOST_TURN_DEG = 5.0
MOST_GROWTH = 1.1
LIPS_CM = np.array([[0.0, 4.0, -4.5], [-4.0, 4.0, -4.5], [0.0, 9.0, -4.5]])  # their plane, down to the chin


def turned_little(before: Pose, after: Pose) -> bool:
    """Whether a picture drawn for one pose can be moved to the other: as large, turned by a few degrees."""
    cosine = float((np.trace(before.rotation.T @ after.rotation) - 1) / 2)
    growth = after.scale_px / before.scale_px
    return cosine > np.cos(np.radians(MOST_TURN_DEG)) and 1 / MOST_GROWTH < growth < MOST_GROWTH


def moved(drawn: Rendered, before: Pose, after: Pose) -> Rendered:
    """A drawn crop as the other pose shows the plane of the lips: new buffers.

    Args:
        drawn: for `before`; not changed.
        before: pose in crop px.
        after: pose in the px of the crop that it is shown in.
    """
    corners = [pose.apply(LIPS_CM)[:, :2].astype(np.float32) for pose in (before, after)]
    affine = np.asarray(cv2.getAffineTransform(*corners), np.float32)
    return Rendered(
        np.asarray(_warped(drawn.rgb, affine, cv2.BORDER_REPLICATE), np.uint8),
        np.asarray(_warped(drawn.alpha, affine, cv2.BORDER_CONSTANT), np.float32),
        np.asarray(_warped(drawn.mask, affine, cv2.BORDER_CONSTANT), np.float32),
    )


def _warped(picture: Array, affine: F32, border: int) -> Array:
    size, how = picture.shape[1::-1], cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(picture, affine, size, flags=how, borderMode=border))
