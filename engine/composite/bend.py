"""Bending the source's skin to the target's expression, so that real skin may show beside the drawn mouth.

When the lips say something else, cheeks, jaw and chin are elsewhere too, but they are the same skin. The mesh
tells how far each place has to go; the frame itself is bent by that, inside the mask, at its own resolution.
The renderer's alpha then has to cover only what bending cannot give: the lips, the inner mouth, new folds.
Skin moves with the mesh; what lies beyond it (neck, collar) follows less and less, and the mask's edge stays.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from engine.arrays import F32, U8, Array
from engine.composite.blend import border_window
from engine.face.model import LANDMARKS, FaceModel, Pose
from engine.image.resize import Square, inside
from engine.image.yuv import I420
from engine.render.mask import FEATHER_CM, MARGIN_CM, hull, soft_mask

CELL_PX = 4  # the displacement is solved on a grid this coarse
NEAR_SHARE, FAR_SHARE = 0.02, 0.05  # sigmas, of the picture's side: between vertices; beyond the mesh
FAR_WEIGHT = 0.08
FADE = 4e-3  # weight against which the displacement fades to nothing far from the mesh
STILL_PX = 0.05  # less than that is no movement


def displacement(model: FaceModel, neutral: F32, shown: F32, wanted: F32, pose: Pose, size_px: int) -> F32:
    """Where each pixel comes from when a face that shows one expression is bent to another.

    Args:
        model: the face model.
        neutral: float32 [V, 3], the person's, extended.
        shown: float32 [E], what the picture shows.
        wanted: float32 [E], what it is bent to.
        pose: of the head in the crop.
        size_px: side of the crop.

    Returns:
        float32 [S, S, 2] px, relative to the pixel itself; 0 outside the mask and at the crop's edge, where a
        broad jaw would else end in a straight seam.
    """
    return _widened(coarse_displacement(model, neutral, shown, wanted, pose, size_px), size_px)


def coarse_displacement(
    model: FaceModel, neutral: F32, shown: F32, wanted: F32, pose: Pose, size_px: int
) -> F32:
    """As `displacement`, on the grid that it is solved on: float32 [cells, cells, 2], in px of the crop."""
    before, after = (model.vertices(neutral, e, pose)[:LANDMARKS, :2] for e in (shown, wanted))
    cells = cells_of(size_px)
    field = _field(before, after, size_px, cells)
    ratio = cells / size_px
    corners, margin, feather = hull(model, neutral, wanted, pose), MARGIN_CM, FEATHER_CM
    scale = pose.scale_px * ratio
    mask = soft_mask(corners * np.float32(ratio), margin * scale, feather * scale, cells, cells)
    field *= (mask * border_window(cells))[..., None]
    return field


def cells_of(size_px: int) -> int:
    """Side of the grid on which a crop's displacement is solved."""
    return max(8, size_px // CELL_PX)


def _widened(field: F32, size_px: int) -> F32:
    return np.asarray(cv2.resize(field, (size_px, size_px), interpolation=cv2.INTER_LINEAR), np.float32)


def travel(before: F32, after: F32, size_px: int) -> F32:
    """As `displacement`, for points [N, 2] px that go from one place to another, and without a mask."""
    return _widened(_field(before, after, size_px, cells_of(size_px)), size_px)


def _field(before: F32, after: F32, size_px: int, cells: int) -> F32:
    """Movement [cells, cells, 2] px, known at the points, smoothed between and faded beyond them."""
    sums = np.zeros((cells, cells, 3), np.float32)
    place = np.floor(after * (cells / size_px)).astype(int)
    within = ((place >= 0) & (place < cells)).all(1)
    values = np.concatenate([before - after, np.ones((len(after), 1), np.float32)], 1)
    np.add.at(sums, (place[within, 1], place[within, 0]), values[within])
    sums /= np.maximum(sums[..., 2:], 1)  # one vote a cell, however dense the mesh is there
    near, far = (
        cv2.GaussianBlur(sums, (0, 0), share * cells, borderType=cv2.BORDER_CONSTANT)
        for share in (NEAR_SHARE, FAR_SHARE)
    )
    total = near + FAR_WEIGHT * far
    return np.asarray(total[..., :2] / (total[..., 2:] + FADE), np.float32)


def bend(picture: Array, shift: F32) -> Array:
    """A picture [H, W] or [H, W, C], uint8 or float32, bent; pixels that do not move are its own.

    Args:
        picture: what is bent.
        shift: float32 [H, W, 2] px.
    """
    return _taken(picture, *_places(shift, 0, 0))


def bend_frame(image: I420, square: Square, shift: F32) -> None:
    """Bend a crop's square of a frame, in place, at the frame's own resolution.

    Args:
        image: the frame; outside the moved pixels it keeps its bytes.
        square: of the crop; even-aligned.
        shift: float32 [S, S, 2], in px of the crop.
    """
    part = inside(square, image.width, image.height)
    if part is None or np.abs(shift).max() < STILL_PX:
        return
    edges = _edges(shift)
    for planes, step in (((image.y,), 1), ((image.u, image.v), 2)):
        side = square.side_px // step
        scaled = cv2.resize(shift, (side, side), interpolation=cv2.INTER_LINEAR)
        ratio, x, y = side / len(shift), part.x // step, part.y // step
        left, top = x - square.x // step, y - square.y // step  # of the part, in the square
        width, height = -(-part.width // step), -(-part.height // step)
        columns = _span(edges[:2], ratio, left, left + width)
        rows = _span(edges[2:], ratio, top, top + height)
        if columns.start == columns.stop or rows.start == rows.stop:
            continue
        places = _places(scaled[rows, columns] * np.float32(ratio), columns.start - left, rows.start - top)
        for plane in planes:
            area: U8 = plane[y : y + height, x : x + width]
            drawn = area[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            drawn[:] = _taken(area, *places)


def _edges(shift: F32) -> tuple[int, int, int, int]:
    """First and one past the last column, then row, of a field [S, S, 2] that something of moves."""
    moves = (shift[..., 0] != 0) | (shift[..., 1] != 0)
    columns, rows = np.flatnonzero(moves.any(0)), np.flatnonzero(moves.any(1))
    return int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1


def _span(edges: Sequence[int], ratio: float, first: int, last: int) -> slice:
    """The same at another scale, a pixel more at either end, between `first` and `last`."""
    low, high = math.floor((edges[0] - 1) * ratio), math.ceil((edges[1] + 1) * ratio)
    return slice(min(max(low, first), last), max(min(high, last), first))


def _places(shift: F32, first_x: int, first_y: int) -> tuple[F32, F32]:
    """Columns and rows [H, W] that pixels come from, the first of them being at (x, y)."""
    height, width = shift.shape[:2]
    columns = shift[..., 0] + np.arange(first_x, first_x + width, dtype=np.float32)
    return columns, shift[..., 1] + np.arange(first_y, first_y + height, dtype=np.float32)[:, None]


def _taken(picture: Array, columns: F32, rows: F32) -> Array:
    return np.asarray(cv2.remap(picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
