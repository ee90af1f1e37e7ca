"""What predicted mouths are judged by while audio-to-expression learns.

Errors are measured on vertices (lips weigh most), on their velocity, on how far the lips are open, on
closures that stay open, and on how much the opening varies, against mumbling.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.arrays import F32, F64
from engine.expression.audio import LOOK_AHEADS_MS
from engine.face.model import LIPS, FaceModel, aperture

LIP_WEIGHT, SKIN_WEIGHT = 3.0, 0.5
VELOCITY, OPENING, CLOSURE, VARIATION = 5.0, 0.3, 0.3, 0.4
CLOSED_CM = 0.15
CLOSURE_TOLD = 0.6  # of closures by their sounds
LOOK_AHEAD_WEIGHTS = (3.0, 1.0, 1.0, 1.0)  # no look-ahead is hardest


class SpeechLoss:
    """The loss of expressions [B, L, T, E] against the truth, where it is known [B, L, T].

    Args:
        model: the face model.
        look_aheads: L; the first weighs most if there are as many as the engine's.
    """

    def __init__(self, model: FaceModel, look_aheads: int = len(LOOK_AHEADS_MS)) -> None:
        self._metric = torch.from_numpy(_metric(model).astype(np.float32))
        self._opening = torch.from_numpy(aperture(model.basis).astype(np.float32))
        known = look_aheads == len(LOOK_AHEADS_MS)
        self._look_ahead = torch.tensor(LOOK_AHEAD_WEIGHTS if known else (1.0,) * look_aheads)[:, None]

    def __call__(self, predicted: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """One number."""
        error = predicted - truth
        velocity = error[..., 1:, :] - error[..., :-1, :]
        weight = known * self._look_ahead
        both = known[..., 1:] * weight[..., :-1]
        opening, true_opening = predicted @ self._opening, truth @ self._opening
        closure = torch.relu(opening - true_opening - 0.05) * (true_opening < CLOSED_CM)
        variation = (_deviation(opening, known) - _deviation(true_opening, known)) ** 2
        return (
            _mean(((error @ self._metric) * error).sum(-1), weight)
            + VELOCITY * _mean(((velocity @ self._metric) * velocity).sum(-1), both)
            + OPENING * _mean((opening - true_opening) ** 2, weight)
            + CLOSURE * _mean(closure, weight)
            + VARIATION * variation.mean()
        )

    def error(self, predicted: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """The error on vertices alone, every look-ahead weighing the same."""
        error = predicted - truth
        return _mean(((error @ self._metric) * error).sum(-1), known)


def closing_direction(model: FaceModel) -> F32:
    """The expression float32 [E] that opens the lips by 1 cm and moves the face least otherwise."""
    opening, metric = aperture(model.basis), _metric(model)
    ridge = 1e-3 * np.trace(metric) / len(metric) * np.eye(len(metric))
    moved = np.linalg.solve(metric + ridge, opening)
    return np.asarray(moved / (moved @ opening), np.float32)


def _metric(model: FaceModel) -> F64:
    """[E, E]: mean squared error of the lower face's vertices, lips weighing most, as a form."""
    weight = np.where(np.isin(model.lower, LIPS), LIP_WEIGHT, SKIN_WEIGHT)[:, None]
    basis = (model.basis[:, model.lower] * np.sqrt(weight)).reshape(model.expressions, -1)
    return np.asarray(basis @ basis.T / weight.sum(), np.float64)


def closure_loss(logit: Tensor, shut: Tensor, known: Tensor) -> Tensor:
    """How far logits are from closures 0..1, where these are known, 0 or 1; all of one shape."""
    each = F.binary_cross_entropy_with_logits(logit, shut, reduction="none")
    return CLOSURE_TOLD * _mean(each, known)


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    return (value * weight).sum() / (weight.sum() + 1e-6)


def _deviation(value: Tensor, weight: Tensor) -> Tensor:
    share = weight / (weight.sum(-1, keepdim=True) + 1e-6)
    centred = value - (share * value).sum(-1, keepdim=True)
    return ((share * centred**2).sum(-1) + 1e-4).sqrt()
