"""Whether the face in a frame is the actor's: nobody else is to be dubbed.

A face is described by what lasts from one clip of a person to the next: its shape, as tracked and freed from
the pose, and its skin, brows and eyes, unwrapped to a grid by the tracked mesh, high-passed and scaled to one
local contrast, so that the light hardly matters. Linear axes, learned from other people, turn that into 64
numbers, whose direction is the person's: the likeness of two faces is the cosine between theirs. An actor
pack holds the actor's direction (`FaceAxes.extra_name`); without it everybody is taken for the actor.

A stream is not looked at in every frame (`Belief`): a new face is, until it is known whose it is, and then
now and again.

Source: linear discriminant analysis (Fisher 1936) of shape and shape-free texture (Cootes et al. 1998).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import cv2
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from engine.arrays import F32, F64, I32, U8, Array, Bool, check_array
from engine.errors import ActorPackError, AssetError
from engine.face.fit import FaceState, procrustes
from engine.face.model import LANDMARKS, STABLE, FaceModel, load_face_model
from engine.face.presence import YAW_RETURN, yaw_degrees
from engine.image.resize import Square, inside, read_plane
from engine.image.yuv import I420, Colour

ASSET = "face_identity.safetensors"
SIZE = 64
PATCH_PX = 128  # side of the cut-out that a face is read from
FACES_PER_PATCH = 1.25  # side of the cut-out in sides of the box around the landmarks
GRID = 48  # cells of the unwrapped face, each way
SMOOTH_PX = 0.8  # of the cut-out, before it is sampled
# cells: detail between the first two is kept, scaled to its spread within the third
FINE, COARSE, LOCAL = 1.0, 4.0, 6.0
DARK_LEVELS = 16.0  # added before the logarithm
SPREAD_FLOOR = 0.02  # of log brightness: less than that is noise

ALIKE, UNLIKE = 0.6, 0.5  # likeness that settles it in one look, for the actor and against
MIDDLE = 0.55  # where looks between those two are divided; see the asset's card
LOOKS = 5  # at a new face before their mean settles it
TURN_LOOKS = 3  # in a row that turn a verdict
CHECK_FRAMES, RETRY_FRAMES = 5, 3  # between looks at the actor, and at somebody else
CHECK_YAW = 25.0  # degrees; the actor is not doubted when turned further

Verdict = Literal["actor", "other", "undecided"]


@dataclass(frozen=True, eq=False)
class Patch:
    """A face as it is looked at.

    Attributes:
        luma: float32 [P, P], full range, 0..255.
        landmarks: float32 [468, 3], px of it.
    """

    luma: F32
    landmarks: F32


@dataclass(frozen=True, eq=False)
class Cells:
    """The grid of the unwrapped face.

    Attributes:
        corners: int32 [G, G, 3], the three landmarks that a cell lies between.
        shares: float32 [G, G, 3] of them, sum 1.
        used: bool [G, G], the cell is on the face and not on the mouth.
    """

    corners: I32
    shares: F32
    used: Bool


@dataclass(frozen=True, eq=False)
class FaceAxes:
    """What tells people apart; the shipped asset.

    Attributes:
        cells: the grid.
        middle: float32 [D], what is taken off a face's features, D = used cells + 3 x 468.
        axes: float32 [D, 64].
        digest: eight hex digits that change with the asset: numbers of another are not comparable.
    """

    cells: Cells
    middle: F32
    axes: F32
    digest: str

    @property
    def extra_name(self) -> str:
        """Under which an actor pack's extras hold the actor's direction, float32 [1, 64]."""
        return f"identity.{self.digest}"

    def direction(self, features: F32) -> F32:
        """Of a face's features [..., D]: unit vectors float32 [..., 64]."""
        found = (features - self.middle) @ self.axes
        return np.asarray(found / np.linalg.norm(found, axis=-1, keepdims=True), np.float32)


class FaceReader:
    """Reads faces out of frames; holds what does not change from frame to frame.

    Args:
        cells: the grid to unwrap to.
        model: the face model.
    """

    def __init__(self, cells: Cells, model: FaceModel) -> None:
        self._cells, self._canonical = cells, model.canonical.astype(np.float64)
        self._stable = np.zeros(LANDMARKS)
        self._stable[list(STABLE)] = 1.0
        used = cells.used.astype(np.float32)
        self._weights = {width: np.maximum(_blur(used, width), 1e-3) for width in (FINE, COARSE, LOCAL)}

    def features(self, patch: Patch) -> F32:
        """Float32 [D]: the used cells' detail, and the shape, weighted as much as half of that."""
        return np.concatenate([self.texture(patch), self.shape(patch.landmarks)])

    def texture(self, patch: Patch) -> F32:
        """Detail of the used cells, float32 [N], scaled so that their number does not matter."""
        cells, used = self._cells, self._cells.used
        smooth = cv2.GaussianBlur(patch.luma, (0, 0), SMOOTH_PX)
        corners = patch.landmarks[:, :2][cells.corners]
        places = np.einsum("ijkd,ijk->ijd", corners, cells.shares)
        x, y = (np.ascontiguousarray(places[..., axis]) for axis in (0, 1))
        seen = cv2.remap(smooth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        brightness = np.where(used, np.log(seen + np.float32(DARK_LEVELS)), 0).astype(np.float32)
        detail = (self._mean(brightness, FINE) - self._mean(brightness, COARSE)) * used
        spread = np.sqrt(self._mean(detail**2, LOCAL)) + np.float32(SPREAD_FLOOR)
        return np.asarray((detail / spread)[used] / np.sqrt(used.sum()), np.float32)

    def shape(self, landmarks: F32) -> F32:
        """Float32 [3 x 468]: the face in the canonical frame, about units of 2 cm, scaled likewise."""
        points = np.asarray(landmarks, np.float64)
        canonical = procrustes(self._canonical, points, self._stable).undo(points)
        return np.asarray((canonical - self._canonical).ravel() / np.sqrt(canonical.size), np.float32)

    def _mean(self, values: F32, width: float) -> F32:
        """Means over used cells around each cell."""
        return np.asarray(_blur(values, width) / self._weights[width], np.float32)


def _blur(values: F32, width: float) -> F32:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), width), np.float32)


def cut_out(image: I420, colour: Colour, landmarks: F32 | F64) -> Patch | None:
    """The face of a frame.

    Args:
        image: the frame, as filmed.
        colour: how its bytes are meant.
        landmarks: [468 or 478, 3], px of it, finite.

    Returns:
        None if it lies outside the frame.
    """
    points = np.asarray(landmarks[:LANDMARKS], np.float32)
    x, y = (float(n) for n in points[:, :2].mean(0))
    side = max(16, 2 * round(float(np.ptp(points[:, :2], axis=0).max()) * FACES_PER_PATCH / 2))
    square = Square(2 * round((x - side / 2) / 2), 2 * round((y - side / 2) / 2), side)
    part = inside(square, image.width, image.height)
    if part is None:
        return None
    luma = read_plane(image.y, part, square, 1, PATCH_PX).astype(np.float32)
    if not colour.full_range:
        luma = np.clip((luma - np.float32(16)) * np.float32(255 / 219), 0, 255)
    scale = np.float32(PATCH_PX / side)
    moved = (points - np.array([square.x, square.y, 0], np.float32)) * scale
    moved[:, :2] += (scale - 1) / 2
    return Patch(luma, moved)


@dataclass(frozen=True, slots=True)
class Belief:
    """Whose face it is, as far as is known; a value.

    Attributes:
        verdict: so far.
        likenesses: of the looks that count towards the next verdict.
        wait: frames until the next look.
    """

    verdict: Verdict = "undecided"
    likenesses: tuple[float, ...] = ()
    wait: int = 0


def weigh(belief: Belief, likeness: float) -> Belief:
    """The belief after one more look.

    One look settles a new face that is clearly the actor's or clearly not; else the mean of `LOOKS` does. A
    verdict is turned only by `TURN_LOOKS` in a row, in frames one after the other.
    """
    seen = (*belief.likenesses, likeness)
    if belief.verdict == "undecided":
        verdict = _first_verdict(seen)
        return Belief("undecided", seen) if verdict is None else _sure(verdict)
    against = likeness < UNLIKE if belief.verdict == "actor" else likeness >= ALIKE
    if against and len(seen) < TURN_LOOKS:
        return Belief(belief.verdict, seen)
    return _sure(belief.verdict if not against else "other" if belief.verdict == "actor" else "actor")


def _first_verdict(seen: tuple[float, ...]) -> Verdict | None:
    if seen[-1] >= ALIKE:
        return "actor"
    if seen[-1] < UNLIKE:
        return "other"
    if len(seen) < LOOKS:
        return None
    return "actor" if float(np.mean(seen)) >= MIDDLE else "other"


def _sure(verdict: Verdict) -> Belief:
    return Belief(verdict, (), (CHECK_FRAMES if verdict == "actor" else RETRY_FRAMES) - 1)


class IdentityWatch:
    """Whether one stream's face is the actor's, frame by frame.

    Args:
        axes: what tells people apart.
        model: the face model.
        actor: float32 [64], the actor's direction; None takes everybody for the actor.
    """

    def __init__(self, axes: FaceAxes, model: FaceModel, actor: F32 | None) -> None:
        self._axes, self._reader, self._actor = axes, FaceReader(axes.cells, model), actor
        self._belief = Belief()

    @property
    def verdict(self) -> Verdict:
        """Whose face it is, as far as is known."""
        return "actor" if self._actor is None else self._belief.verdict

    def look(
        self,
        image: I420,
        colour: Colour,
        landmarks: F32,
        state: FaceState,
        *,
        new: bool = False,
        covered: bool = False,
    ) -> None:
        """Take the next frame's face.

        Args:
            image: the frame, as filmed.
            colour: how its bytes are meant.
            landmarks: float32 [478, 3] px, finite.
            state: as fitted to them.
            new: it need not be the last frame's face: a cut, or a face where there was none.
            covered: something is before the mouth: it looks like nobody, and may be somebody else behind it.
        """
        if new or covered:
            self.reset()
        if self._actor is None or covered:
            return
        if self._belief.wait > 0:
            self._belief = Belief(self._belief.verdict, self._belief.likenesses, self._belief.wait - 1)
            return
        limit = CHECK_YAW if self._belief.verdict == "actor" else YAW_RETURN
        if yaw_degrees(state) > limit:
            return
        patch = cut_out(image, colour, landmarks)
        if patch is not None:
            direction = self._axes.direction(self._reader.features(patch))
            self._belief = weigh(self._belief, float(direction @ self._actor))

    def reset(self) -> None:
        """Forget whose face it was."""
        self._belief = Belief()


def actor_direction(axes: FaceAxes, extras: Mapping[str, Array]) -> F32 | None:
    """The actor's direction float32 [64] out of a pack's extras; None if it has none by these axes.

    Raises:
        ActorPackError: it is damaged.
    """
    rows = extras.get(axes.extra_name)
    if rows is None:
        return None
    try:
        check_array(axes.extra_name, rows, (1, SIZE), np.float32)
    except (TypeError, ValueError) as error:
        raise ActorPackError(f"the actor pack's identity does not fit: {error}") from error
    length = float(np.linalg.norm(rows[0]))
    if not abs(length - 1) < 1e-3:
        raise ActorPackError(f"the actor pack's identity does not fit: its length is {length:g}, not 1")
    return np.asarray(rows[0], np.float32)


def mean_direction(directions: F32) -> F32:
    """What a pack holds of a person: float32 [1, 64], the mean of directions [N, 64], N at least 1.

    Those unlike the one in the middle of most are left out: footage may show somebody else for a moment.
    """
    alike = directions.astype(np.float64) @ directions.T
    middle = int(np.median(alike, axis=1).argmax())
    mean = directions[alike[middle] >= UNLIKE].astype(np.float64).mean(0)
    return np.asarray(mean[None] / np.linalg.norm(mean), np.float32)


def from_bytes(data: bytes) -> FaceAxes:
    """Read the asset: `corners` int16, `shares` float16, `used` uint8, `middle` float32, `axes` float16.

    Raises:
        AssetError: the bytes are not that.
    """
    try:
        held = load(data)
        used: U8 = held["used"]
        shares = held["shares"].astype(np.float32)
        cells = Cells(held["corners"].astype(np.int32), shares, used.astype(np.bool_))
        axes = held["axes"].astype(np.float32)
        check_array("shares", shares, (GRID, GRID, 3), np.float32)
        check_array("axes", axes, (int(used.sum()) + 3 * LANDMARKS, SIZE), np.float32)
        return FaceAxes(cells, held["middle"], axes, hashlib.sha256(data).hexdigest()[:8])
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise AssetError(f"the identity asset is damaged: {error}; reinstall livedub") from error


@cache
def load_face_axes() -> FaceAxes:
    """The axes that livedub ships."""
    return from_bytes(resources.files("engine.assets").joinpath(ASSET).read_bytes())


def open_watch(extras: Mapping[str, Array], model: FaceModel | None = None) -> IdentityWatch:
    """The watch for an actor pack with these extras.

    Raises:
        ActorPackError: the pack's entry is damaged.
        AssetError: the shipped asset is.
    """
    axes = load_face_axes()
    return IdentityWatch(axes, model or load_face_model(), actor_direction(axes, extras))
