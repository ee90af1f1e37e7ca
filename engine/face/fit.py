"""Landmarks of one frame to pose, expression and residual.

Closed form, alternating twice: the pose from the stable upper face (weighted Procrustes; Umeyama 1991), the
expression by ridge regression in the canonical frame, then the pose again from the whole face as expressed.
No smoothing: measured, it lags more than it helps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.arrays import F32, F64
from engine.errors import NoFaceError
from engine.face.model import LANDMARKS, STABLE, FaceModel, Pose, aperture

DEPTH_WEIGHT = 0.25  # MediaPipe's z is a guess, x and y are measurements
RIDGE = 0.002  # in units of the mean curvature of the fit
LOWER_POSE_WEIGHT = 0.15  # the lower face's say in the second pose
SMALLEST_SCALE_PX = 0.1  # a face of 2 px
REST_SHARE = 0.12  # the most closed frames, that define the neutral
REST_GAP_CM = 0.2  # lips further apart than this are not at rest


@dataclass(frozen=True, slots=True)
class FaceState:
    """One frame's face.

    Attributes:
        pose: where the head is.
        expression: float32 [E], lower-face coefficients.
        residual: float32 [468, 3], canonical units: what the model did not explain.
        confidence: 0..1, from the tracker.
    """

    pose: Pose
    expression: F32
    residual: F32
    confidence: float


def procrustes(model: F64 | F32, picture: F64 | F32, weights: F64) -> Pose:
    """The similarity that best carries `model` to `picture`, both [N, 3], weighted (Umeyama 1991, eq. 40)."""
    w = weights / weights.sum()
    centre_model, centre_picture = w @ model, w @ picture
    a, b = model - centre_model, picture - centre_picture
    u, d, vt = np.linalg.svd((b * w[:, None]).T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((d * sign).sum() / (w @ (a**2)).sum())
    return Pose(scale, rotation, centre_picture - scale * rotation @ centre_model)


class Fitter:
    """Fits one person's frames; holds what does not change from frame to frame.

    Args:
        model: the face model.
        neutral: float32 [468, 3] (more rows are ignored), the person's neutral.
    """

    def __init__(self, model: FaceModel, neutral: F32 | F64) -> None:
        self.neutral = np.asarray(neutral[:LANDMARKS], np.float64)
        self._lower = model.lower
        self._basis = model.basis[:, model.lower].reshape(model.expressions, -1).astype(np.float64)
        weight = np.tile([1.0, 1.0, DEPTH_WEIGHT], len(model.lower))
        curvature = (self._basis * weight) @ self._basis.T
        ridge = RIDGE * np.trace(curvature) / model.expressions * np.eye(model.expressions)
        self._solve = np.linalg.solve(curvature + ridge, self._basis * weight)
        self._stable = np.zeros(LANDMARKS)
        self._stable[list(STABLE)] = 1.0
        self._everywhere = self._stable.copy()
        self._everywhere[model.lower] = LOWER_POSE_WEIGHT

    def fit(self, landmarks: F32 | F64, confidence: float = 1.0) -> FaceState:
        """The face state of landmarks [468 or 478, 3] px.

        Raises:
            NoFaceError: the landmarks are not finite (the tracker found no face), or fall on one point.
        """
        points = np.asarray(landmarks[:LANDMARKS], np.float64)
        if not np.isfinite(points).all():
            raise NoFaceError("no face in this frame: its landmarks are not finite")
        pose = procrustes(self.neutral, points, self._stable)
        if pose.scale_px < SMALLEST_SCALE_PX:
            raise NoFaceError("no face in this frame: its landmarks fall on one point")
        expression = self._expression(pose.undo(points))
        pose = procrustes(self._expressed(expression), points, self._everywhere)
        canonical = pose.undo(points)
        expression = self._expression(canonical)
        residual = canonical - self._expressed(expression)
        return FaceState(pose, expression.astype(np.float32), residual.astype(np.float32), confidence)

    def _expression(self, canonical: F64) -> F64:
        return self._solve @ (canonical - self.neutral)[self._lower].ravel()

    def _expressed(self, expression: F64) -> F64:
        shape = self.neutral.copy()
        shape[self._lower] += (expression @ self._basis).reshape(-1, 3)
        return shape


def canonicalise(landmarks: Sequence[F32] | F32, reference: F64 | F32) -> F64:
    """Landmarks [F, 468+, 3] px moved onto `reference` [468, 3] by the stable upper face: [F, 468, 3]."""
    weights = np.zeros(LANDMARKS)
    weights[list(STABLE)] = 1.0
    frames = [np.asarray(frame[:LANDMARKS], np.float64) for frame in landmarks]
    return np.stack([procrustes(reference, frame, weights).undo(frame) for frame in frames])


def rest_shape(canonical: F64) -> F64:
    """The shape [468, 3] of lips at rest: the mean over the most closed of canonical frames [F, 468, 3]."""
    opening = aperture(canonical)
    return np.asarray(canonical[opening <= np.quantile(opening, REST_SHARE)].mean(0))


def person_neutral(model: FaceModel, landmarks: F32) -> F32:
    """A person's neutral float32 [468, 3] from frames [F, 468+, 3] px; those without a face are left out.

    Raises:
        NoFaceError: no frame has a face.
    """
    seen = landmarks[np.isfinite(landmarks).all(axis=(1, 2))]
    if len(seen) == 0:
        raise NoFaceError("no face in any frame: check that the video shows one person's face")
    first = np.median(canonicalise(seen, model.canonical), axis=0)
    rest = rest_shape(canonicalise(seen, first))
    gap = float(aperture(rest)) - REST_GAP_CM
    if gap > 0:  # lips that were never seen closed: the model knows how they close
        rest -= gap * np.tensordot(model.jaw_open, model.basis[:, :LANDMARKS], 1)
    return rest.astype(np.float32)
