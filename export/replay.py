"""Replaying the prior without anybody's footage.

A network that learns one person from seconds forgets what those seconds do not show. So it is also shown that
person's frames with expressions drawn broadly, and asked for what the prior's network gives there.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.arrays import F32, U8
from engine.composite.bend import bend, displacement
from engine.face.model import FaceModel
from export.dataset import FaceClip
from export.render_batch import Batch, Sample
from export.train_prior import Prior

WIDEST_CM, CLOSEST_CM = 2.5, -0.3  # of the jaw's opening, added to an expression


def with_other_expressions(
    clip: FaceClip,
    frames: NDArray[np.int64],
    reference: int,
    model: FaceModel,
    count: int,
    rng: np.random.Generator,
) -> tuple[FaceClip, list[Sample]]:
    """Some of these frames of a clip with other expressions, and samples of them all.

    The source of each is the frame, bent to its new expression, as it is when somebody is dubbed.
    """
    rows = np.append(rng.choice(frames, count), reference)
    shown = frames_of(clip, rows)
    other = np.append(other_expressions(clip.expression[frames], model, count, rng), shown.expression[-1:], 0)
    bent = np.stack([_bent(shown, index, other[index], model) for index in range(len(rows))])
    shown = replace(shown, crops=bent, expression=other, spoken=None)
    return shown, [Sample(0, index, count, look=index) for index in range(count)]


def _bent(clip: FaceClip, index: int, wanted: F32, model: FaceModel) -> U8:
    size = clip.crops.shape[1]
    shift = displacement(model, clip.neutral, clip.expression[index], wanted, clip.pose(index), size)
    return np.asarray(bend(clip.crops[index], shift), np.uint8)


def drift(prior: Prior, teacher: Prior, batch: Batch, texture: Tensor) -> Tensor:
    """Mean difference of picture and alpha, inside the hole, between two priors' networks.

    Args:
        prior: learns.
        teacher: does not.
        batch: B samples.
        texture: [16, h, w], the same for both.
    """
    with torch.no_grad():
        wanted = teacher.render(batch, texture[None])
    ours = prior.render(batch, texture[None])
    hole = (batch.mask > 0).to(texture.dtype)[:, 0]
    error = (ours.picture - wanted.picture).abs().sum(1) + (ours.alpha - wanted.alpha).abs().sum(1)
    return (error * hole).sum() / (4 * hole.sum() + 1e-6)


def other_expressions(own: F32, model: FaceModel, count: int, rng: np.random.Generator) -> F32:
    """Expressions [count, E] that a person may show, the person's own [F, E] or not.

    Each is one of the person's at random, faded, plus a spread of one standard deviation of the training
    footage, plus an opening of the jaw from closed lips to a wide vowel.
    """
    base = own[rng.integers(len(own), size=count)] * rng.uniform(0, 1, (count, 1))
    spread = rng.standard_normal((count, model.expressions)) * rng.uniform(0.2, 1, (count, 1))
    opening = rng.uniform(CLOSEST_CM, WIDEST_CM, (count, 1)) * rng.integers(0, 2, (count, 1))
    return np.asarray(base + spread + opening * model.jaw_open, np.float32)


def frames_of(clip: FaceClip, rows: NDArray[np.int64]) -> FaceClip:
    """These frames of a clip, as a clip."""
    return replace(
        clip,
        crops=clip.crops[rows],
        scale_px=clip.scale_px[rows],
        rotation=clip.rotation[rows],
        translation_px=clip.translation_px[rows],
        expression=clip.expression[rows],
        frames=clip.frames[rows],
        spoken=None if clip.spoken is None else clip.spoken[rows],
    )
