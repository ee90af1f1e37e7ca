"""The area of a frame that may be redrawn, as a soft mask.

It is the convex hull of the lower face over jaw openings, from closed to wide open (the union keeps the hole
from telling how open the original mouth was, method of the paper's preprocessing), joined with the target's
own opening. A convex hull is an intersection of half planes, so the distance to its edge, and with it a soft
edge, is exact.
"""

import cv2
import numpy as np

from engine.arrays import F32
from engine.face.model import FaceModel, Pose

WIDE_OPEN_CM = 3.0  # lip opening that the hull always leaves room for
MARGIN_CM = 0.35  # hull grows by this: landmarks of the jaw line wander by about as much
FEATHER_CM = 0.9  # width of the soft edge, inside the hull
ALPHA_STEEPNESS = 2.5  # the drawn picture's alpha may rise this much faster than the mask


def hull(model: FaceModel, neutral: F32, expression: F32, pose: Pose) -> F32:
    """Corners float32 [K, 2] px, in order, of the area to redraw when this head shows `expression` [E]."""
    openings = (np.zeros_like(model.jaw_open), WIDE_OPEN_CM * model.jaw_open, expression)
    outline = model.mask_outline
    points = [
        pose.apply(neutral[outline] + np.tensordot(opening, model.basis[:, outline], 1))
        for opening in openings
    ]
    corners = cv2.convexHull(np.concatenate(points)[:, :2].astype(np.float32))
    return np.asarray(corners, np.float32).reshape(-1, 2)


def soft_mask(corners: F32, margin_px: float, feather_px: float, height: int, width: int) -> F32:
    """Soft mask float32 [H, W] of a convex hull: 0 beyond its margin, 1 from `feather_px` inside that on.

    Args:
        corners: float32 [K, 2], the hull in px of this picture, in order either way round.
        margin_px: how far the mask reaches beyond the hull.
        feather_px: width of the ramp from 0 to 1, > 0.
        height: of the mask, px.
        width: of the mask, px.
    """
    from engine.render import _kernels

    out = np.empty((height, width), np.float32)
    normals, offsets = half_planes(corners)
    _kernels.soft_mask(normals, offsets, np.float32(margin_px), np.float32(1 / feather_px), out)
    return out


def half_planes(corners: F32) -> tuple[F32, F32]:
    """Outward unit normals float32 [K, 2] and offsets float32 [K] px of a hull's edges.

    A point is inside where `normals @ point - offsets` is negative: its distance to the edge's line, px.

    Args:
        corners: float32 [K, 2], the hull in px, in order either way round.
    """
    edges = np.roll(corners, -1, axis=0) - corners
    area = float(
        np.sum(corners[:, 0] * np.roll(corners[:, 1], -1) - np.roll(corners[:, 0], -1) * corners[:, 1])
    )
    outward = np.stack([edges[:, 1], -edges[:, 0]], -1) * np.sign(area)
    normals = outward / np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
    return normals.astype(np.float32), (normals * corners).sum(1).astype(np.float32)


def soft_mask_reference(corners: F32, margin_px: float, feather_px: float, height: int, width: int) -> F32:
    """What `soft_mask` computes, in numpy."""
    normals, offsets = half_planes(corners)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)
    distance = (np.stack([xs, ys], -1) @ normals.T - offsets).max(-1)
    return np.asarray(np.clip((margin_px - distance) / feather_px, 0, 1), np.float32)
