"""Learn the face model: a pooled expression basis of the lower face, and the layout of the neural texture.

Every person's frames are moved onto the canonical head by the stable upper face, that person's rest shape is
taken away, and principal components of the lower face, of the frames and of their mirror images, are the
basis. People weigh the same however long their clips are, lips weigh more than cheeks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from engine.arrays import F32, F64, I32
from engine.face.fit import Fitter, canonicalise, rest_shape
from engine.face.model import (
    CARD_COLUMNS,
    CARD_ROWS,
    CAVITY,
    CHIN,
    INNER_LIPS,
    LANDMARKS,
    LIPS,
    LOWER_CARD,
    LOWER_TEETH,
    MOUTH_CORNERS,
    SKIN,
    UPPER_CARD,
    UPPER_TEETH,
    VERTICES,
    FaceModel,
    aperture,
)

NOSE_BASE = 2
FRAMES_PER_PERSON = 250
LIP_WEIGHT = 2.0
TEXTURE_TOP_CM = -1.5  # textured skin begins this far above the canonical origin, at the middle of the nose
SKIN_HEIGHT = 0.80  # share of the texture's height for skin; the rest is the inner mouth
LIP_ZOOM = 1.2  # how strongly texels are drawn to the middle of the face
MASK_OUTLINE = (
    *(132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361),
    *(187, 205, 203, 97, 2, 326, 423, 425, 411),
)  # fmt: skip
# The jaw line below the ears, and back under the cheeks and the nose.


@dataclass(frozen=True)
class CanonicalMesh:
    """MediaPipe's mesh: vertices [468, 3] (y down, z into the head), UVs [468, 2], triangles [898, 3]."""

    vertices: F32
    uv: F32
    triangles: I32


def learn(mesh: CanonicalMesh, people: Mapping[str, list[F32]], modes: int = 16, seed: int = 0) -> FaceModel:
    """The face model from tracked landmarks.

    Args:
        mesh: MediaPipe's canonical mesh.
        people: for each person, a list of clips, landmarks float32 [F, 468+, 3] px.
        modes: number of expression coefficients.
        seed: of the choice of frames.
    """
    lower = np.flatnonzero(mesh.vertices[:, 1] > mesh.vertices[NOSE_BASE, 1] - 0.5).astype(np.int32)
    mirror = _mirror(mesh.vertices)
    motion = _pooled_motion(mesh, people, lower, mirror, np.random.default_rng(seed))
    weights = np.where(np.isin(lower, LIPS), LIP_WEIGHT, 1.0)[:, None] * [1.0, 1.0, 0.7]
    _, spread, components = np.linalg.svd(motion * weights.ravel(), full_matrices=False)
    deviation = spread[:modes] / np.sqrt(len(motion))
    modes_lower = (components[:modes] * deviation[:, None] / weights.ravel()).reshape(modes, -1, 3)
    basis = np.zeros((modes, VERTICES, 3))
    basis[:, lower] = modes_lower * np.sign(modes_lower[:, lower == CHIN[0], 1])[..., None]
    basis[:, LANDMARKS : LOWER_CARD.start] = basis[:, list(INNER_LIPS)]
    basis[:, LOWER_CARD] = basis[:, list(CHIN)].mean(axis=1, keepdims=True)
    triangles, layers = _triangles(mesh)
    return FaceModel(
        canonical=mesh.vertices.astype(np.float32),
        basis=basis.astype(np.float32),
        uv=_atlas(mesh, triangles[layers == SKIN]),
        triangles=triangles,
        layers=layers,
        lower=lower,
        mask_outline=np.array(MASK_OUTLINE, np.int32),
        jaw_open=_jaw_open(basis).astype(np.float32),
    )


def _pooled_motion(
    mesh: CanonicalMesh, people: Mapping[str, list[F32]], lower: I32, mirror: I32, rng: np.random.Generator
) -> F64:
    rows = []
    for clips in people.values():
        for landmarks in clips:
            canonical = canonicalise(landmarks, np.median(canonicalise(landmarks, mesh.vertices), axis=0))
            moved = canonical - rest_shape(canonical)
            count = max(1, FRAMES_PER_PERSON // len(clips))
            chosen = moved[rng.choice(len(moved), min(count, len(moved)), replace=False)]
            mirrored = chosen[:, mirror] * [-1.0, 1.0, 1.0]
            rows += [chosen[:, lower], mirrored[:, lower]]
    return np.concatenate(rows).reshape(-1, 3 * len(lower))


def _mirror(vertices: F32) -> I32:
    distance = ((vertices[:, None] - vertices[None] * [-1.0, 1.0, 1.0]) ** 2).sum(-1)
    return np.asarray(distance.argmin(1), np.int32)


def _jaw_open(basis: F64) -> F64:
    """The likeliest expression that opens the lips by one unit: the gradient of the opening, scaled."""
    gradient = aperture(basis)
    return gradient / (gradient @ gradient)


def _triangles(mesh: CanonicalMesh) -> tuple[I32, I32]:
    inner = set(INNER_LIPS)
    copy = {vertex: LANDMARKS + i for i, vertex in enumerate(INNER_LIPS)}
    membrane = [t for t in mesh.triangles if inner.issuperset(t.tolist())]
    skin = [
        t
        for t in mesh.triangles
        if not inner.issuperset(t.tolist()) and mesh.vertices[t, 1].min() > TEXTURE_TOP_CM
    ]
    cavity = [[copy[int(v)] for v in t] for t in membrane]
    lower, upper = _grid(LOWER_CARD.start), _grid(UPPER_CARD.start)
    parts = [(skin, SKIN), (cavity, CAVITY), (lower, LOWER_TEETH), (upper, UPPER_TEETH)]
    triangles = np.concatenate([np.asarray(part, np.int32) for part, _ in parts])
    layers = np.concatenate([np.full(len(part), layer, np.int32) for part, layer in parts])
    return triangles, layers


def _grid(start: int) -> list[list[int]]:
    triangles = []
    for row in range(CARD_ROWS - 1):
        for column in range(CARD_COLUMNS - 1):
            a = start + row * CARD_COLUMNS + column
            triangles += [[a, a + 1, a + CARD_COLUMNS], [a + 1, a + CARD_COLUMNS + 1, a + CARD_COLUMNS]]
    return triangles


def _atlas(mesh: CanonicalMesh, skin: I32) -> F32:
    """Texture coordinates: skin above, wider at the lips; cavity, lower and upper teeth in a strip below."""
    uv = np.zeros((VERTICES, 2))
    used = np.unique(skin)
    top, bottom = mesh.uv[used, 1].min(), mesh.uv[used, 1].max()
    across = np.tanh(LIP_ZOOM * 2 * (mesh.uv[:, 0] - 0.5)) / np.tanh(LIP_ZOOM)
    uv[:LANDMARKS, 0] = 0.5 + 0.49 * across
    uv[:LANDMARKS, 1] = 0.01 + (SKIN_HEIGHT - 0.03) * np.clip((mesh.uv[:, 1] - top) / (bottom - top), 0, 1)
    strip_top, strip_height = SKIN_HEIGHT + 0.01, 0.98 - SKIN_HEIGHT
    uv[LANDMARKS : LOWER_CARD.start] = _ring_uv(mesh) * [0.31, strip_height] + [0.01, strip_top]
    x, y = np.meshgrid(np.linspace(0, 1, CARD_COLUMNS), np.linspace(0, 1, CARD_ROWS))
    card = np.stack([x, y], -1).reshape(-1, 2) * [0.31, strip_height]
    uv[LOWER_CARD] = card + np.array([0.345, strip_top])
    uv[UPPER_CARD] = card + np.array([0.675, strip_top])
    return uv.astype(np.float32)


def _ring_uv(mesh: CanonicalMesh) -> F64:
    """The lip ring opened to an ellipse in the unit square: the closed mouth's membrane gets an area."""
    ring = mesh.vertices[list(INNER_LIPS), 0]
    left, right = mesh.vertices[list(MOUTH_CORNERS), 0]
    x = 2 * (ring - left) / (right - left) - 1
    half = np.sqrt(np.clip(1 - x**2, 0, None)) / 2
    upper = np.arange(len(INNER_LIPS)) <= len(INNER_LIPS) // 2
    return np.stack([(x + 1) / 2, np.where(upper, 0.5 - half, 0.5 + half)], -1)


def reprojection_px(model: FaceModel, landmarks: F32, face_px: float = 256.0) -> dict[str, float]:
    """Error of lower face and lips as fitted to landmarks [F, 468+, 3], rms px, with faces of `face_px`."""
    first = np.median(canonicalise(landmarks, model.canonical), axis=0)
    neutral = rest_shape(canonicalise(landmarks, first))
    fitter, errors = Fitter(model, neutral), []
    for frame in landmarks:
        state = fitter.fit(frame)
        height = np.ptp(frame[:LANDMARKS, 1])
        errors.append(state.residual[:, :2] * state.pose.scale_px * face_px / height)
    square = (np.stack(errors) ** 2).sum(-1)
    return {
        "lower_face_px": float(np.sqrt(square[:, model.lower].mean())),
        "lips_px": float(np.sqrt(square[:, list(LIPS)].mean())),
    }


def write(model: FaceModel, path: Path) -> None:
    """Write the asset that `engine.face.model` reads."""
    path.write_bytes(save({name: getattr(model, name) for name in FaceModel.__dataclass_fields__}))
