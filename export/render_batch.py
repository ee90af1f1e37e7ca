"""Batches for training the renderer: geometry rasterised on the fly, with noise as the tracker makes it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.arrays import F32
from engine.face.model import LIPS, FaceModel, Pose, aperture
from engine.render.mask import FEATHER_CM, MARGIN_CM, hull, soft_mask
from engine.render.raster import UvMap, rasterise
from export.dataset import FaceClip


@dataclass(frozen=True)
class Noise:
    """How strongly training inputs are disturbed; 0 everywhere means not at all."""

    expression: float = 0.0  # standard deviations
    shift_px: float = 0.0
    scale: float = 0.0
    mask: float = 0.0  # share of margin and feather
    colour: float = 0.0


TRAINING_NOISE = Noise(expression=0.06, shift_px=0.35, scale=0.003, mask=0.4, colour=0.03)
NO_NOISE = Noise()


@dataclass(frozen=True)
class Batch:
    """What one step trains on; B samples of S x S px, channels first, 0..1.

    Attributes:
        clips: which clip each sample is of.
        target: [B, 3, S, S]; reference: [B, 3, S, S].
        uv: [B, S, S, 2]; covered, mask, mouth: [B, 1, S, S]; mouth is a soft weight of the lips.
    """

    clips: list[int]
    target: Tensor
    reference: Tensor
    uv: Tensor
    covered: Tensor
    mask: Tensor
    mouth: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        moved = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if field.name != "clips"
        }
        return replace(self, **moved)


def reference_order(clip: FaceClip, model: FaceModel) -> NDArray[np.int64]:
    """Frame indices of a clip, widest open mouth first: what a reference crop is taken from."""
    opening = clip.expression @ aperture(model.basis)
    return np.asarray(np.argsort(-opening), np.int64)


def geometry(
    clip: FaceClip, index: int, model: FaceModel, noise: Noise, rng: np.random.Generator
) -> tuple[UvMap, F32, F32]:
    """UV map, soft mask [S, S] and mouth weight [S, S] of one frame, disturbed by `noise`."""
    size = clip.crops.shape[1]
    expression = clip.expression[index] + noise.expression * rng.standard_normal(model.expressions).astype(
        np.float32
    )
    pose = _disturbed(clip.pose(index), noise, rng)
    vertices = model.vertices(clip.neutral, expression, pose)
    wider = 1 + noise.mask * rng.uniform(-1, 1, 2)
    corners = hull(model, clip.neutral, expression, pose)
    margin, feather = MARGIN_CM * wider[0] * pose.scale_px, FEATHER_CM * wider[1] * pose.scale_px
    mask = soft_mask(corners, margin, feather, size, size)
    lips = np.asarray(cv2.convexHull(vertices[list(LIPS), :2]), np.float32).reshape(-1, 2)
    mouth = soft_mask(lips, 0.5 * pose.scale_px, 0.5 * pose.scale_px, size, size)
    return rasterise(vertices, model.triangles, model.layers, model.uv, size, size), mask, mouth


def _disturbed(pose: Pose, noise: Noise, rng: np.random.Generator) -> Pose:
    shift = np.append(noise.shift_px * rng.standard_normal(2), 0.0)
    return replace(
        pose,
        scale_px=pose.scale_px * (1 + noise.scale * rng.standard_normal()),
        translation_px=pose.translation_px + shift,
    )


def make_batch(
    clips: Sequence[FaceClip],
    chosen: Sequence[tuple[int, int, int]],
    model: FaceModel,
    noise: Noise,
    rng: np.random.Generator,
) -> Batch:
    """A batch of (clip, frame, reference frame) triples."""
    maps, masks, mouths, targets, references = [], [], [], [], []
    for clip_index, frame, reference in chosen:
        clip = clips[clip_index]
        uv_map, mask, mouth = geometry(clip, frame, model, noise, rng)
        gain = (1 + noise.colour * rng.standard_normal() + noise.colour / 2 * rng.standard_normal(3)).astype(
            np.float32
        )
        maps.append(uv_map)
        masks.append(mask)
        mouths.append(mouth)
        targets.append(np.minimum(clip.crops[frame].astype(np.float32) / 255 * gain, 1))
        references.append(np.minimum(clip.crops[reference].astype(np.float32) / 255 * gain, 1))
    return Batch(
        [clip for clip, _, _ in chosen],
        _channels_first(targets),
        _channels_first(references),
        torch.from_numpy(np.stack([m.uv for m in maps])),
        torch.from_numpy(np.stack([m.layer >= 0 for m in maps])[:, None].astype(np.float32)),
        torch.from_numpy(np.stack(masks)[:, None]),
        torch.from_numpy(np.stack(mouths)[:, None]),
    )


def _channels_first(pictures: list[F32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2)))


def unproject(
    clip: FaceClip, model: FaceModel, size_px: int, frames: int = 24, *, end: int | None = None
) -> tuple[F32, F32]:
    """Plain colours of a person's texture, averaged over the frames before `end`.

    Returns:
        float32 [size_px, size_px, 3] in 0..1, and weights [size_px, size_px].
    """
    colour, weight = np.zeros((size_px, size_px, 3), np.float32), np.zeros((size_px, size_px), np.float32)
    rng, last = np.random.default_rng(0), len(clip) if end is None else end
    for index in np.unique(np.linspace(0, last - 1, min(frames, last)).astype(int)):
        uv_map, _, _ = geometry(clip, int(index), model, NO_NOISE, rng)
        _splat(clip.crops[index].astype(np.float32) / 255, uv_map.uv, uv_map.layer, colour, weight)
    return np.asarray(colour / np.maximum(weight, 1e-6)[..., None], np.float32), weight


@numba.njit(cache=True)
def _splat(picture, uv, layer, colour, weight):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    size = weight.shape[0]
    for y in range(layer.shape[0]):
        for x in range(layer.shape[1]):
            if layer[y, x] < 0:
                continue
            tx = min(max(uv[y, x, 0] * size - 0.5, 0.0), size - 1.001)
            ty = min(max(uv[y, x, 1] * size - 0.5, 0.0), size - 1.001)
            x0, y0 = int(tx), int(ty)
            for dy in range(2):
                for dx in range(2):
                    w = abs(1 - dx - (tx - x0)) * abs(1 - dy - (ty - y0))
                    weight[y0 + dy, x0 + dx] += w
                    for c in range(3):
                        colour[y0 + dy, x0 + dx, c] += w * picture[y, x, c]
