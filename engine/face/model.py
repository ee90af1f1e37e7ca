"""The face model: what a face can look like, as plain linear geometry on MediaPipe's 468-vertex topology.

Coordinates. The canonical frame is about centimetres: x to the picture's right, y down, z into the head; the
nose points to negative z. A pose is a similarity: pixels = scale · R · canonical + translation, an
orthographic camera, which is the camera MediaPipe's own z belongs to.

Vertices. The first 468 are MediaPipe's. Behind them come the inner mouth's: the lip ring once more (the
cavity), then two cards of teeth, a rigid upper one and a lower one that follows the chin (linear in the
expression too, because the chin is). `expression` is 0 for lips at rest and closed, one unit per standard
deviation in the training footage.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from engine.arrays import F32, F64, I32, check_array
from engine.errors import AssetError

LANDMARKS = 468
ASSET = "face_model.safetensors"
SKIN, CAVITY, LOWER_TEETH, UPPER_TEETH = 0, 1, 2, 3  # layers of triangles, painted in this order

UPPER_LIP, LOWER_LIP = 13, 14  # the middle of the inner lips
MOUTH_CORNERS = (78, 308)
CHIN = (152, 148, 377, 176, 400, 175, 199, 200)  # skin that follows the jaw
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
LIPS = (
    *(61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 146, 91, 181, 84, 17, 314, 405, 321, 375),
    *INNER_LIPS,
)  # fmt: skip
STABLE = (
    *(10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 33, 133, 263, 362, 127, 356),
    *(234, 454, 70, 300, 107, 336, 46, 276, 123, 352, 116, 345),
)  # what speech hardly moves: forehead, nose, eye corners, cheek bones

CARD_COLUMNS, CARD_ROWS = 7, 3
VERTICES = LANDMARKS + len(INNER_LIPS) + 2 * CARD_COLUMNS * CARD_ROWS
LOWER_CARD = slice(LANDMARKS + len(INNER_LIPS), LANDMARKS + len(INNER_LIPS) + CARD_COLUMNS * CARD_ROWS)
UPPER_CARD = slice(LOWER_CARD.stop, VERTICES)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a head is in a picture.

    Attributes:
        scale_px: px per canonical unit (about 1 cm).
        rotation: float64 [3, 3], canonical to picture axes.
        translation_px: float64 [3], picture position of the canonical origin; z has no absolute meaning.
    """

    scale_px: float
    rotation: F64
    translation_px: F64

    def apply(self, points: F64 | F32) -> F64:
        """Canonical points [..., 3] in picture px (z in the same unit)."""
        return self.scale_px * (points @ self.rotation.T) + self.translation_px

    def undo(self, points: F64 | F32) -> F64:
        """Picture points [..., 3] px in the canonical frame."""
        return (points - self.translation_px) @ self.rotation / self.scale_px


@dataclass(frozen=True)
class FaceModel:
    """The shared part of every face; see the module for coordinates and vertices.

    Attributes:
        canonical: float32 [468, 3], MediaPipe's mean face.
        basis: float32 [E, V, 3], canonical displacement per unit of expression.
        uv: float32 [V, 2] in 0..1, the neural texture's coordinates, v downwards.
        triangles: int32 [N, 3] into V; the part of the face that a texture covers, and the inner mouth.
        layers: int32 [N], SKIN, CAVITY, LOWER_TEETH or UPPER_TEETH of each triangle.
        lower: int32 [L], the vertices that expression moves.
        mask_outline: int32 [M], the convex hull of these vertices is the area that may be redrawn.
        jaw_open: float32 [E], the expression that opens the mouth by one canonical unit.
    """

    canonical: F32
    basis: F32
    uv: F32
    triangles: I32
    layers: I32
    lower: I32
    mask_outline: I32
    jaw_open: F32

    @property
    def expressions(self) -> int:
        """Number of expression coefficients, E."""
        return len(self.basis)

    def extend(self, neutral: F32 | F64) -> F32:
        """A person's neutral skin [468, 3] with that person's inner mouth: float32 [V, 3]."""
        skin = np.asarray(neutral, np.float32)
        check_array("neutral", skin, (LANDMARKS, 3), np.float32)
        line = (skin[UPPER_LIP] + skin[LOWER_LIP]) / 2
        width = float(np.linalg.norm(skin[MOUTH_CORNERS[1]] - skin[MOUTH_CORNERS[0]]))
        lower = _card(line, width, top=-0.35, bottom=0.95, depth=0.75)
        upper = _card(line, width, top=-0.80, bottom=0.45, depth=0.60)
        return np.concatenate([skin, skin[list(INNER_LIPS)], lower, upper])

    def vertices(self, neutral: F32, expression: F32 | F64, pose: Pose) -> F32:
        """Picture positions float32 [V, 3] px of an extended neutral [V, 3] with an expression [E]."""
        check_array("neutral", neutral, (VERTICES, 3), np.float32)
        shape = neutral + np.tensordot(np.asarray(expression, np.float32), self.basis, 1)
        return pose.apply(shape).astype(np.float32)


def _card(line: F32, width: float, *, top: float, bottom: float, depth: float) -> F32:
    """A row of teeth: a grid [columns x rows, 3] on an arc behind the lip line; canonical units."""
    across = np.linspace(-0.44, 0.44, CARD_COLUMNS) * width
    down = np.linspace(top, bottom, CARD_ROWS)
    x, y = np.meshgrid(across, down)
    z = depth + 0.30 * x**2  # the dental arch recedes by about 1 cm at the canines
    return (np.stack([x, y, z], -1).reshape(-1, 3) + line).astype(np.float32)


def aperture(points: F32 | F64) -> F64:
    """How far the inner lips are apart, canonical units, for canonical points [..., 468 or more, 3]."""
    return np.asarray(points[..., LOWER_LIP, 1] - points[..., UPPER_LIP, 1], np.float64)


def from_bytes(data: bytes) -> FaceModel:
    """Read a face model asset.

    Raises:
        AssetError: the bytes are not a face model.
    """
    try:
        tensors = load(data)
        return FaceModel(**{name: tensors[name] for name in FaceModel.__dataclass_fields__})
    except (KeyError, SafetensorError) as error:
        raise AssetError(f"the face model is damaged: {error}; reinstall livedub") from error


@cache
def load_face_model() -> FaceModel:
    """The face model that livedub ships."""
    return from_bytes(resources.files("engine.assets").joinpath(ASSET).read_bytes())
