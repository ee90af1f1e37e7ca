"""What the renderer is trained to make small."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from export.render_batch import Batch

MOUTH_WEIGHT, GRADIENT_WEIGHT, TEXTURE_WEIGHT, TEMPORAL_WEIGHT, PERCEPTUAL_WEIGHT = 3.0, 4.0, 0.3, 1.0, 0.15
ALPHA_WEIGHT, ALPHA_MOUTH_WEIGHT, ALPHA_SMOOTH_WEIGHT = 0.005, 0.3, 0.5

Perceptual = Callable[[Tensor, Tensor], Tensor]


class Drawn(NamedTuple):
    """What the renderer made of a batch.

    Attributes:
        picture: [B, 3, S, S], about 0..1.
        alpha: [B, 1, S, S] in 0..1, how much of it shows; 0 outside the mask.
        sampled: [B, 3, S, S], the sampled texture's plain colours, -1..1.
    """

    picture: Tensor
    alpha: Tensor
    sampled: Tensor

    def over(self, source: Tensor) -> Tensor:
        """What a viewer sees: the picture over a source [B, 3, S, S]."""
        return self.alpha * self.picture + (1 - self.alpha) * source


def render_loss(
    drawn: Drawn, batch: Batch, *, pairs: bool = False, perceptual: Perceptual | None = None
) -> Tensor:
    """L1 in the hole, more on the mouth, on gradients, on the texture's plain colours, and on motion.

    Both the picture and what a viewer sees of it over the source are held to the target. Alpha is held to as
    little as that allows (real skin is the best skin), to smoothness, and to 1 on the lips.

    Args:
        drawn: what the renderer made.
        batch: of what.
        pairs: samples 2 k and 2 k + 1 are neighbouring frames: motion is compared too.
        perceptual: distance of two batches of pictures, if its weights are at hand.
    """
    target, mouth, hole = batch.target, batch.mouth, (batch.mask > 0).to(drawn.picture.dtype)
    seen = drawn.over(batch.source)
    loss = _alpha_loss(drawn.alpha, hole, mouth)
    for picture in (drawn.picture, seen):
        error = (picture - target).abs()
        loss = loss + 0.5 * (_mean(error, hole) + MOUTH_WEIGHT * _mean(error, mouth))
        loss = loss + 0.5 * GRADIENT_WEIGHT * _gradient_error(picture, target, hole)
    colours = (drawn.sampled * 0.5 + 0.5 - target).abs()
    loss = loss + TEXTURE_WEIGHT * _mean(colours, batch.covered * hole)
    if pairs:
        motion = (seen[1::2] - seen[::2]) - (target[1::2] - target[::2])
        loss = loss + TEMPORAL_WEIGHT * (
            _mean(motion.abs(), hole[1::2]) + MOUTH_WEIGHT * _mean(motion.abs(), mouth[1::2])
        )
    if perceptual is not None:
        every = 2 if pairs else 1  # a neighbour says little that is new, and this term costs the most
        composite = (seen * hole + target * (1 - hole)).clamp(0, 1)
        ours, theirs = (around_mouth(image[::every] * 2 - 1, mouth[::every]) for image in (composite, target))
        loss = loss + PERCEPTUAL_WEIGHT * perceptual(ours, theirs).mean()
    return loss


def _alpha_loss(alpha: Tensor, hole: Tensor, mouth: Tensor) -> Tensor:
    across, down = alpha.diff(dim=-1).abs().mean(), alpha.diff(dim=-2).abs().mean()
    little = ALPHA_WEIGHT * _mean(alpha, hole) + ALPHA_MOUTH_WEIGHT * _mean(1 - alpha, mouth)
    return little + ALPHA_SMOOTH_WEIGHT * (across + down)


def around_mouth(pictures: Tensor, mouth: Tensor) -> Tensor:
    """Windows [B, C, 3/8 S, 3/8 S] of pictures [B, C, S, S], centred on the lips' weight [B, 1, S, S]."""
    size = pictures.shape[-1] * 3 // 8
    places = torch.arange(pictures.shape[-1], dtype=mouth.dtype, device=mouth.device)
    total = mouth.sum((1, 2, 3)) + 1e-6
    windows = []
    for picture, x, y in zip(
        pictures, (mouth.sum((1, 2)) @ places) / total, (mouth.sum((1, 3)) @ places) / total, strict=True
    ):
        left, top = (int(min(max(float(v) - size / 2, 0), pictures.shape[-1] - size)) for v in (x, y))
        windows.append(picture[:, top : top + size, left : left + size])
    return torch.stack(windows)


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    return (error * weight).sum() / (weight.sum() * error.shape[1] + 1e-6)


def _gradient_error(picture: Tensor, target: Tensor, hole: Tensor) -> Tensor:
    difference = (picture - target) * hole
    across = (difference[..., 1:] - difference[..., :-1]).abs().mean()
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    return across + down


def psnr_db(picture: Tensor, target: Tensor, weight: Tensor) -> float:
    """PSNR of the weighted area, dB."""
    error = ((picture.clamp(0, 1) - target) ** 2 * weight).sum() / (weight.sum() * picture.shape[1] + 1e-9)
    return float(-10 * torch.log10(error + 1e-12))
