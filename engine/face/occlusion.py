"""Whether something is before the mouth: a hand, a microphone, a cup.

The landmark network finds a mouth also on the hand that hides it, so its confidence says nothing. But the
place where it finds the mouth then has other colours than this face had there all the time. So the skin
around the mouth is unwrapped to a grid of cells by the tracked mesh, and each cell's colour is compared with
its own slowly learned mean and spread. Nose and cheeks, seen in the same frame, take out what the light does.
The inner mouth is no part of the grid: it changes with every word.

The first frames of a stream, or after a cut, are taken for an uncovered face. Should that be wrong, or the
face change for good (a beard is shaved off between two takes), the new looks are learned after a while.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from engine.arrays import F32, F64, I32, U8, check_array
from engine.face.fit import FaceState
from engine.face.model import SKIN, FaceModel, Pose
from engine.face.presence import YAW_LIMIT, yaw_degrees

COLUMNS, ROWS = 12, 8
U_RANGE, V_RANGE = (0.34, 0.66), (0.31, 0.47)  # of the model's UV: the lips and a finger's breadth around
LIT_Y_CM, LIT_X_CM = 1.6, 5.5  # nose and cheeks lie above and within
DARK_LEVELS = 12.0  # added before the logarithm: what a camera's noise makes of black
SPREAD_FLOOR = np.array([0.10, 0.035, 0.035], np.float32)  # of log brightness and of two log colour ratios
FAR = 2.25  # spreads from the mean
COVERED_SHARE, CLEAR_SHARE = 0.3, 0.15  # of the cells that are far: covered above, clear again below
CLEAR_FRAMES = 3
LEARNING_FRAMES = 5  # before anything is compared
MEMORY_FRAMES = 50.0
FORGET_FRAMES = 25  # without a face
PATIENCE_FRAMES = (50, 500)  # covered for so long, by the age of what was learned, is how the face looks


@dataclass(frozen=True, eq=False)
class Cells:
    """Places on the face, as points between three vertices each.

    Attributes:
        corners: int32 [N + M, 3] into the model's vertices.
        shares: float32 [N + M, 3] of the corners, sum 1.
        mouth: N, how many of them, the first ones, lie around the mouth; the others are lit like it.
    """

    corners: I32
    shares: F32
    mouth: int


@dataclass(frozen=True, eq=False)
class Looks:
    """What a face has looked like; a value.

    Attributes:
        mean: float32 [N + M, 3], brightness and colours of the cells; None before the first frame.
        variance: float32 [N + M, 3].
        frames: how many were learned from.
        covered: whether something is before the mouth.
        run: frames since it might be otherwise: clear ones while covered.
        covered_frames: for how long it has been covered.
    """

    mean: F32 | None = None
    variance: F32 | None = None
    frames: int = 0
    covered: bool = False
    run: int = 0
    covered_frames: int = 0


def face_cells(model: FaceModel) -> Cells:
    """The grid around the mouth, and nose and cheeks."""
    triangles = model.triangles[model.layers == SKIN]
    found = [_cell(model, triangles, *place) for place in _grid()]
    corners = [one[0] for one in found if one is not None]
    shares = [one[1] for one in found if one is not None]
    skin = np.unique(triangles)
    above, within = model.canonical[skin, 1] < LIT_Y_CM, np.abs(model.canonical[skin, 0]) < LIT_X_CM
    lit = skin[above & within]
    return Cells(
        np.concatenate([np.array(corners), np.repeat(lit[:, None], 3, 1)]).astype(np.int32),
        np.concatenate([np.array(shares), np.full((len(lit), 3), 1 / 3)]).astype(np.float32),
        len(corners),
    )


def _grid() -> list[tuple[float, float]]:
    columns, rows = ((np.arange(count) + 0.5) / count for count in (COLUMNS, ROWS))
    (u, du), (v, dv) = ((low, high - low) for low, high in (U_RANGE, V_RANGE))
    return [(float(u + du * x), float(v + dv * y)) for y in rows for x in columns]


def _cell(model: FaceModel, triangles: I32, u: float, v: float) -> tuple[I32, F32] | None:
    """The triangle around a UV place, and the place in it; None where there is no skin."""
    a, b, c = (np.asarray(model.uv[triangles[:, k]], np.float64) for k in range(3))
    place = np.array([u, v])
    whole = _cross(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.stack([_cross(b - place, c - place), _cross(c - place, a - place)], 1) / whole[:, None]
    shares = np.column_stack([shares, 1 - shares.sum(1)])
    hit = np.flatnonzero((shares >= 0).all(1))
    return (triangles[hit[0]], shares[hit[0]].astype(np.float32)) if len(hit) else None


def _cross(a: F64, b: F64) -> F64:
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def read_cells(cells: Cells, crop: U8, vertices: F32) -> F32:
    """The cells' looks in a crop.

    Args:
        cells: which places.
        crop: uint8 [S, S, 3], RGB.
        vertices: float32 [V, 3], crop px, as tracked in this frame, expression included.

    Returns:
        float32 [N + M, 3]: log brightness, and the logs of red and of blue against it.
    """
    check_array("crop", crop, (None, None, 3), np.uint8)
    half = cv2.resize(crop, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    places = np.einsum("nkd,nk->nd", vertices[cells.corners, :2], cells.shares).astype(np.float32)
    places = (places + np.float32(0.5)) / 2 - np.float32(0.5)
    x, y = (np.ascontiguousarray(places[None, :, axis]) for axis in (0, 1))
    colours = cv2.remap(half, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
    return _looks(colours)


def _looks(colours: U8) -> F32:
    logs = np.log(colours.astype(np.float32) + np.float32(DARK_LEVELS))
    brightness = logs.mean(1)
    return np.stack([brightness, logs[:, 0] - brightness, logs[:, 2] - brightness], 1)


def watch(looks: Looks, seen: F32, mouth: int) -> Looks:
    """What is known after the next frame.

    Args:
        looks: before it; `Looks()` for a first frame.
        seen: float32 [N + M, 3], as `read_cells` gives it.
        mouth: N.
    """
    if looks.mean is None or looks.variance is None:
        return Looks(seen.copy(), np.zeros_like(seen), 1)
    light = np.median(seen[mouth:] - looks.mean[mouth:], axis=0)
    away = seen - light - looks.mean
    share = far_share(away[:mouth], looks.variance[:mouth]) if looks.frames >= LEARNING_FRAMES else 0.0
    if looks.covered:
        return _while_covered(looks, seen, share)
    if share > COVERED_SHARE:
        return replace(looks, covered=True, run=0, covered_frames=1)
    rate = np.float32(max(1 / MEMORY_FRAMES, 1 / (looks.frames + 1)))
    mean = looks.mean + rate * away
    variance = looks.variance + rate * (away**2 - looks.variance)
    return replace(looks, mean=mean, variance=variance, frames=looks.frames + 1)


def far_share(away: F32, variance: F32) -> float:
    """Share of cells whose difference [N, 3] from the mean is more than `FAR` of their spreads."""
    distance = (away**2 / (variance + SPREAD_FLOOR**2)).sum(1)
    return float((distance > FAR**2).mean())


def _while_covered(looks: Looks, seen: F32, share: float) -> Looks:
    run = looks.run + 1 if share < CLEAR_SHARE else 0
    if run >= CLEAR_FRAMES:
        return replace(looks, covered=False, run=0, covered_frames=0)
    least, most = PATIENCE_FRAMES
    if looks.covered_frames >= min(max(2 * looks.frames, least), most):
        return Looks(seen.copy(), np.zeros_like(seen), 1)
    return replace(looks, run=run, covered_frames=looks.covered_frames + 1)


class CoverWatch:
    """One stream's looks, frame by frame.

    Args:
        model: the face model.
        neutral: float32 [V, 3], the person's, extended.
    """

    def __init__(self, model: FaceModel, neutral: F32) -> None:
        self._model, self._neutral, self._cells = model, neutral, face_cells(model)
        self._looks, self._missing = Looks(), 0

    @property
    def covered(self) -> bool:
        """Whether something is before the mouth."""
        return self._looks.covered

    def look(self, crop: U8, pose: Pose, state: FaceState, *, cut: bool = False) -> None:
        """Take the next frame's face.

        Args:
            crop: uint8 [S, S, 3], as filmed.
            pose: of the head in it, crop px.
            state: as tracked.
            cut: the frame is the first one after a programme cut.
        """
        if cut:
            self.reset()
        self._missing = 0
        if yaw_degrees(state) > YAW_LIMIT:
            return
        vertices = self._model.vertices(self._neutral, state.expression, pose)
        self._looks = watch(self._looks, read_cells(self._cells, crop, vertices), self._cells.mouth)

    def miss(self) -> None:
        """Take a frame without a face: after some of them another person may come."""
        self._missing += 1
        if self._missing > FORGET_FRAMES:
            self.reset()

    def reset(self) -> None:
        """Forget the face."""
        self._looks, self._missing = Looks(), 0
