"""An actor made up for tests: the shipped face model and graph, weights and texture from a seed.

Nothing here depends on what the shipped prior has learned: every weight of the graph is replaced.
"""

from functools import cache
from typing import Any, Literal

import numpy as np

from engine.actor.pack import ActorPack
from engine.arrays import F32
from engine.backends import weights_of
from engine.expression.audio import STYLE_SIZE
from engine.face.crop import CENTRE_CM, SIDE_CM
from engine.face.model import ASSET as FACE_MODEL_ASSET
from engine.face.model import INNER_LIPS, LANDMARKS, Pose, load_face_model
from engine.render.renderer import PRIOR_ASSETS, asset_sha256, prior_graph
from tests.support.packs import make_manifest

TIER, SIZE_PX, TEXTURE_PX, CHANNELS = "cpu", 224, 64, 16

Weights = Literal["zero", "random"]


def toy_actor(weights: Weights = "zero", seed: int = 0, **changes: Any) -> ActorPack:
    """A pack for the shipped prior's graph.

    Args:
        weights: "zero": the network draws its texture's plain colours; "random": it disturbs them.
        seed: of texture, style and weights.
        changes: of the manifest.
    """
    random = np.random.default_rng(seed)
    manifest = make_manifest(
        **{
            "face_model_sha256": asset_sha256(FACE_MODEL_ASSET),
            "prior_sha256": asset_sha256(PRIOR_ASSETS[TIER]),
            "tier": TIER,
            "image_size_px": SIZE_PX,
        }
        | changes
    )
    neutral = resting_face()
    return ActorPack(
        manifest=manifest,
        neutral=neutral,
        mean_residual=np.zeros_like(neutral),
        texture=random.uniform(-0.8, 0.8, (CHANNELS, TEXTURE_PX, TEXTURE_PX)).astype(np.float16),
        style=np.zeros(STYLE_SIZE, np.float32),
        references=random.integers(0, 256, (1, SIZE_PX, SIZE_PX, 3), dtype=np.uint8),
        weights={
            name: _weight(name, shape, random) if weights == "random" else np.zeros(shape, np.float32)
            for name, shape in _shapes().items()
        },
    )


@cache
def _shapes() -> dict[str, tuple[int, ...]]:
    return {
        name: array.shape for name, array in weights_of(prior_graph(TIER)).items() if name.startswith("net.")
    }


def _weight(name: str, shape: tuple[int, ...], random: np.random.Generator) -> F32:
    gain = 0.1 if name.startswith("net.head") else 1.0
    values = random.standard_normal(shape) * gain / np.sqrt(np.prod(shape[1:]))
    return np.asarray(values, np.float32)


@cache
def resting_face() -> F32:
    """The mean person, lips closed (the canonical face's are half a centimetre apart): float32 [V, 3]."""
    model = load_face_model()
    skin = model.canonical.copy()
    for above, below in zip(INNER_LIPS[1:10], INNER_LIPS[:10:-1], strict=True):
        skin[[above, below]] = (skin[above] + skin[below]) / 2
    return model.extend(skin)


def pose(
    *,
    scale_px: float = 12.0,
    yaw_deg: float = 0.0,
    roll_deg: float = 0.0,
    x_px: float = 0.0,
    y_px: float = 0.0,
) -> Pose:
    """A head at a place in a picture, turned to the right and tilted."""
    yaw, roll = np.radians([yaw_deg, roll_deg])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return Pose(scale_px, tilt @ turn, np.array([x_px, y_px, 0.0]))


def crop_head(size_px: int = SIZE_PX, **turn: float) -> Pose:
    """A head in the middle of a crop."""
    scale = size_px / SIDE_CM
    head = pose(scale_px=scale, **turn)
    middle = np.array([size_px / 2, size_px / 2, 0.0]) - scale * head.rotation @ CENTRE_CM
    return Pose(scale, head.rotation, middle)


def opened(centimetres: float) -> F32:
    """The expression whose lips are so far apart."""
    return np.asarray(centimetres * load_face_model().jaw_open, np.float32)


def landmarks(
    head: Pose, expression: F32 | None = None, seed: int | None = None, noise_px: float = 0.0
) -> F32:
    """What a tracker sees of the mean person's head, float32 [478, 3] px; the irises are made up."""
    model = load_face_model()
    shown = np.zeros(model.expressions, np.float32) if expression is None else expression
    points = model.vertices(resting_face(), shown, head)[:LANDMARKS]
    points = np.concatenate([points, points[:10]])
    if seed is not None:
        points += noise_px * np.random.default_rng(seed).standard_normal(points.shape)
    return np.asarray(points, np.float32)
