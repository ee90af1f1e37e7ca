"""A face that is painted where a head is: skin in a light from one side, red lips, a dark mouth, noise."""

import cv2
import numpy as np

from engine.arrays import F32, U8
from engine.face.model import INNER_LIPS, LIPS, Pose, load_face_model
from tests.support.toy_actor import SIZE_PX, opened, resting_face


def vertices(head: Pose, opening_cm: float = 0.0) -> F32:
    """The mean person's mesh, px."""
    return load_face_model().vertices(resting_face(), opened(opening_cm), head)


def picture(
    head: Pose,
    opening_cm: float = 0.0,
    *,
    light: float = 1.0,
    seed: int = 0,
    width: int = SIZE_PX,
    height: int = SIZE_PX,
) -> U8:
    """The painted face, uint8 [H, W, 3]."""
    points = vertices(head, opening_cm)[:, :2]
    canvas = np.empty((height, width, 3))
    canvas[:] = np.array([190.0, 140.0, 115.0]) * (0.8 + 0.3 * np.linspace(0, 1, width)[:, None])
    cv2.fillPoly(canvas, [np.rint(points[list(LIPS[:20])]).astype(np.int32)], (150, 70, 75))
    cv2.fillPoly(canvas, [np.rint(points[list(INNER_LIPS)]).astype(np.int32)], (40, 15, 15))
    noise = np.random.default_rng(seed).normal(0, 3, canvas.shape)
    return np.clip(light * canvas + noise, 0, 255).astype(np.uint8)


def hidden(rgb: U8, head: Pose, colour: tuple[int, int, int], radius_cm: float = 2.3) -> U8:
    """The picture with a disc before the mouth."""
    lips = vertices(head)[list(LIPS), :2].mean(0)
    centre = (int(lips[0]), int(lips[1]))
    return np.asarray(cv2.circle(rgb.copy(), centre, round(radius_cm * head.scale_px), colour, -1), np.uint8)
