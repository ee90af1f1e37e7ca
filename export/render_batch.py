"""Batches for training the renderer: geometry rasterised on the fly, with noise as the tracker makes it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import cv2
import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.arrays import F32
from engine.composite.bend import bend, displacement, travel
from engine.face.model import LANDMARKS, LIPS, FaceModel, Pose, aperture
from engine.render.mask import ALPHA_STEEPNESS, FEATHER_CM, MARGIN_CM, hull, soft_mask
from engine.render.raster import UvMap, rasterise
from export.dataset import FaceClip

WIDER_CM = 0.15  # how much wider than filmed a mouth may be bent open: what is inside cannot be invented
LEAST_QUALITY, BEST_QUALITY = 35, 95  # of compression
ALIKE_PX, ALIKE_TURN, ALIKE_SCALE = 14.0, 0.12, 0.06


@dataclass(frozen=True)
class Noise:
    """How strongly training inputs are disturbed; 0 everywhere means not at all.

    Attributes:
        expression: standard deviations; shift_px, scale: of the pose; mask: share of margin and feather.
        colour: share, of everything and of each channel; light: share by which one side is lighter.
        compression: how often the source and the reference are compressed.
        jaw_cm: of the source's jaw, beside that of the frame it is taken from.
        spoken: how often the expression is partly what the sound says.
        borrowed: how often the source's skin is another frame's.
    """

    expression: float = 0.0
    shift_px: float = 0.0
    scale: float = 0.0
    mask: float = 0.0
    colour: float = 0.0
    light: float = 0.0
    compression: float = 0.0
    jaw_cm: float = 0.0
    spoken: float = 0.0
    borrowed: float = 0.0


TRAINING_NOISE = Noise(
    expression=0.06,
    shift_px=0.35,
    scale=0.003,
    mask=0.4,
    colour=0.03,
    light=0.06,
    compression=0.3,
    jaw_cm=0.3,
    spoken=0.15,
    borrowed=0.6,
)
NO_NOISE = Noise()


class Sample(NamedTuple):
    """One picture to train on.

    Attributes:
        clip, frame: which; reference: the frame shown as a reference.
        other: the frame whose mouth the source showed before it was bent to the target's; None: the source is
            the frame itself.
        look: samples of the same number share light and compression.
    """

    clip: int
    frame: int
    reference: int
    other: int | None = None
    look: int = 0


@dataclass(frozen=True)
class Look:
    """What is random about a shot, and the same for its neighbouring frame."""

    gain: F32
    slope: F32
    reference_gain: F32
    quality: int | None
    jaw_cm: float
    spoken: float
    borrowed: bool

    @classmethod
    def random(cls, noise: Noise, rng: np.random.Generator) -> "Look":
        """Draw one."""
        gain = 1 + noise.colour * rng.standard_normal() + noise.colour / 2 * rng.standard_normal(3)
        drift = 1 + noise.colour / 2 * rng.standard_normal(3)
        compressed, spoken, borrowed = rng.uniform(size=3) < (noise.compression, noise.spoken, noise.borrowed)
        return cls(
            gain.astype(np.float32),
            (noise.light * rng.standard_normal(2)).astype(np.float32),
            (gain * drift).astype(np.float32),
            int(rng.integers(LEAST_QUALITY, BEST_QUALITY)) if compressed else None,
            noise.jaw_cm * rng.standard_normal(),
            float(rng.uniform(0.3, 1)) if spoken else 0.0,
            bool(borrowed),
        )

    def light(self, picture: F32) -> F32:
        """A picture [S, S, 3] in this light, one side of it lighter than the other."""
        across = np.linspace(-1, 1, picture.shape[0], dtype=np.float32)
        field = 1 + self.slope[0] * across[None, :, None] + self.slope[1] * across[:, None, None]
        return np.asarray(np.clip(picture * (field * self.gain), 0, 1), np.float32)

    def compress(self, picture: F32) -> F32:
        """A picture [S, S, 3] after a camera's or a network's compression, if there is one."""
        if self.quality is None:
            return picture
        pixels = np.rint(picture[..., ::-1] * 255).astype(np.uint8)
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        again = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float32)
        return again[..., ::-1] / np.float32(255)


@dataclass(frozen=True)
class Batch:
    """What one step trains on; B samples of S x S px, channels first, 0..1.

    Attributes:
        clips: which clip each sample is of.
        target: [B, 3, S, S], what a viewer should see.
        source: [B, 3, S, S], the frame to be dubbed, bent to the target's expression, perhaps compressed.
        reference: [B, 3, S, S], the person in another frame.
        uv: [B, S, S, 2]; covered, mask, mouth: [B, 1, S, S]; mouth is a soft weight of the lips.
    """

    clips: list[int]
    target: Tensor
    source: Tensor
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
    clip: FaceClip,
    index: int,
    model: FaceModel,
    noise: Noise,
    rng: np.random.Generator,
    expression: F32 | None = None,
) -> tuple[UvMap, F32, F32]:
    """UV map, soft mask [S, S] and mouth weight [S, S] of one frame, disturbed by `noise`.

    The frame's own expression is drawn, or the one given, [E].
    """
    size = clip.crops.shape[1]
    expression = clip.expression[index] if expression is None else expression
    expression = expression + noise.expression * rng.standard_normal(model.expressions).astype(np.float32)
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
    chosen: Sequence[Sample],
    model: FaceModel,
    noise: Noise,
    rng: np.random.Generator,
) -> Batch:
    """The batch of these samples. Samples of one `look` share light, compression and whether they speak."""
    looks = {sample.look: Look.random(noise, rng) for sample in chosen}
    shots = [_shoot(clips[sample.clip], sample, model, noise, looks[sample.look], rng) for sample in chosen]
    return Batch(
        [sample.clip for sample in chosen],
        _channels_first([shot.target for shot in shots]),
        _channels_first([shot.source for shot in shots]),
        _channels_first([shot.reference for shot in shots]),
        torch.from_numpy(np.stack([shot.uv_map.uv for shot in shots])),
        torch.from_numpy(np.stack([shot.uv_map.layer >= 0 for shot in shots])[:, None].astype(np.float32)),
        torch.from_numpy(np.stack([shot.mask for shot in shots])[:, None]),
        torch.from_numpy(np.stack([shot.mouth for shot in shots])[:, None]),
    )


@dataclass(frozen=True)
class _Shot:
    target: F32
    source: F32
    reference: F32
    uv_map: UvMap
    mask: F32
    mouth: F32


def _shoot(
    clip: FaceClip, sample: Sample, model: FaceModel, noise: Noise, look: Look, rng: np.random.Generator
) -> _Shot:
    tracked, pose = clip.expression[sample.frame], clip.pose(sample.frame)
    expression = _spoken(clip, sample.frame, model, look)
    target = look.light(clip.crops[sample.frame].astype(np.float32) / 255)
    if expression is not tracked:
        target = _bent(target, clip, model, tracked, expression, pose)
    uv_map, mask, mouth = geometry(clip, sample.frame, model, noise, rng, expression)
    source = target
    if sample.other is not None:
        frames = sample.frame, sample.other
        source = _there_and_back(target, clip, frames, model, expression, noise, look, rng)
        if look.borrowed and _alike(pose, clip.pose(sample.other)):
            source = _borrowed(source, clip, frames, model, expression, mask, look)
    reference = look.reference_gain * clip.crops[sample.reference].astype(np.float32) / 255
    return _Shot(target, look.compress(source), look.compress(np.minimum(reference, 1)), uv_map, mask, mouth)


def _bent(picture: F32, clip: FaceClip, model: FaceModel, shown: F32, wanted: F32, pose: Pose) -> F32:
    shift = displacement(model, clip.neutral, shown, wanted, pose, len(picture))
    return np.asarray(bend(picture, shift), np.float32)


def _there_and_back(
    target: F32,
    clip: FaceClip,
    frames: tuple[int, int],
    model: FaceModel,
    expression: F32,
    noise: Noise,
    look: Look,
    rng: np.random.Generator,
) -> F32:
    """The target with the other frame's mouth, bent to its own again, with the tracker's error in between."""
    frame, other = frames
    pose = clip.pose(frame)
    shown = _with_jaw(clip.expression[other], model, look.jaw_cm)
    error = noise.expression * rng.standard_normal(model.expressions).astype(np.float32)
    there = _bent(target, clip, model, expression, shown, pose)
    return _bent(there, clip, model, shown + error, expression, pose)


def _borrowed(
    around: F32,
    clip: FaceClip,
    frames: tuple[int, int],
    model: FaceModel,
    expression: F32,
    mask: F32,
    look: Look,
) -> F32:
    """Inside the mask the skin of the other frame, with that frame's folds, bent to the target."""
    frame, other = frames
    before = _skin(clip, model, clip.expression[other], clip.pose(other))
    after = _skin(clip, model, expression, clip.pose(frame))
    skin = bend(look.light(clip.crops[other].astype(np.float32) / 255), travel(before, after, len(mask)))
    share = np.minimum(mask * ALPHA_STEEPNESS, 1)[..., None]
    return np.asarray(skin * share + around * (1 - share), np.float32)


def _alike(one: Pose, other: Pose) -> bool:
    """Whether two heads stand so alike that bending one frame gives the other."""
    moved_px = float(np.hypot(*(one.translation_px - other.translation_px)[:2]))
    turned = float(np.abs(one.rotation - other.rotation).max())
    return (
        moved_px < ALIKE_PX and turned < ALIKE_TURN and abs(one.scale_px / other.scale_px - 1) < ALIKE_SCALE
    )


def _skin(clip: FaceClip, model: FaceModel, expression: F32, pose: Pose) -> F32:
    return model.vertices(clip.neutral, expression, pose)[:LANDMARKS, :2]


def _with_jaw(expression: F32, model: FaceModel, jaw_cm: float) -> F32:
    opening = float(expression @ aperture(model.basis))
    return np.asarray(expression + max(jaw_cm, -max(opening, 0.0)) * model.jaw_open, np.float32)


def _spoken(clip: FaceClip, frame: int, model: FaceModel, look: Look) -> F32:
    """The frame's expression, or partly what its sound says; never wider open than footage can be bent to."""
    tracked: F32 = clip.expression[frame]
    if clip.spoken is None or not look.spoken:
        return tracked
    change = clip.spoken[frame] - tracked
    wider = float(change @ aperture(model.basis))
    share = look.spoken if wider <= 0 else min(look.spoken, WIDER_CM / wider)
    return np.asarray(tracked + share * change, np.float32)


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
