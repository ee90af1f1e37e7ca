"""Footage of a made-up person for training tests: a smooth picture that follows the head and its mouth."""

import cv2
import numpy as np

from engine.arrays import F32, U8
from engine.face.model import Pose, load_face_model
from export.dataset import FaceClip, crop_clip
from tests.support.toy_actor import landmarks, opened, pose, resting_face

WIDTH, HEIGHT = 200, 160


def toy_clip(identity: str = "ada", frames: int = 12, size_px: int = 32, tint: float = 0.0) -> FaceClip:
    """A talking head that drifts, cropped and fitted."""
    points = [landmarks(head(i), opened(opening(i))) for i in range(frames)]
    pictures = [picture(one, tint) for one in points]
    neutral = resting_face()[:468]
    return crop_clip(
        identity, pictures, np.stack(points), load_face_model(), size_px=size_px, neutral=neutral
    )


def head(index: int) -> Pose:
    return pose(scale_px=7.0, yaw_deg=2.0 * np.sin(index), x_px=100 + index, y_px=60)


def opening(index: int) -> float:
    return float(1 + np.sin(index))


def picture(points: F32, tint: float) -> U8:
    """Skin with dark lips, uint8 [H, W, 3]."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    rgb = np.stack([150 + 0.3 * rows, 110 + 0.2 * columns, 90 + 60 * tint + 0 * rows], -1)
    canvas: U8 = np.clip(rgb, 0, 255).astype(np.uint8)
    lips = points[[61, 39, 0, 269, 291, 405, 17, 181], :2]
    cv2.fillPoly(canvas, [np.rint(lips).astype(np.int32)], (120, 40, 60))
    return canvas
