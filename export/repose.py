"""A frame with another mouth: the picture is bent so that the lower face shows another expression.

Self-reenactment never shows the renderer what dubbing shows it: a source whose jaw is lower or higher than
the target's. Bending real frames makes such pairs: the bent frame is the source, the real one the target.
Skin moves with the mesh, and what is beyond it (neck, collar) follows less and less with distance.
"""

import cv2
import numpy as np

from engine.arrays import F32

CELL_PX = 4  # the displacement is solved on a grid this coarse
NEAR_SHARE, FAR_SHARE = 0.02, 0.05  # sigmas, of the picture's side: between vertices; beyond the mesh
FAR_WEIGHT = 0.08
FADE = 4e-3  # weight against which the displacement fades to nothing far from the mesh


def repose(picture: F32, before: F32, after: F32) -> F32:
    """Bend a picture so that what was at `before` is at `after`.

    Args:
        picture: float32 [S, S, 3].
        before: float32 [N, 2] px.
        after: float32 [N, 2] px.

    Returns:
        float32 [S, S, 3]; pixels that nothing moves are the picture's own.
    """
    shift = displacement(picture.shape[0], before, after)
    rows, columns = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]].astype(np.float32)
    bent = cv2.remap(
        picture,
        columns + shift[..., 0],
        rows + shift[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(bent, np.float32)


def displacement(size_px: int, before: F32, after: F32) -> F32:
    """Where each pixel of the bent picture comes from, relative to itself: float32 [S, S, 2] px."""
    cells = max(8, size_px // CELL_PX)
    scale = cells / size_px
    sums = np.zeros((cells, cells, 3), np.float32)
    place = np.floor(after * scale).astype(int)
    inside = ((place >= 0) & (place < cells)).all(1)
    values = np.concatenate([before - after, np.ones((len(after), 1), np.float32)], 1)
    np.add.at(sums, (place[inside, 1], place[inside, 0]), values[inside])
    sums /= np.maximum(sums[..., 2:], 1)  # one vote a cell, however dense the mesh is there
    near, far = (
        cv2.GaussianBlur(sums, (0, 0), share * cells, borderType=cv2.BORDER_CONSTANT)
        for share in (NEAR_SHARE, FAR_SHARE)
    )
    total = near + FAR_WEIGHT * far
    field = total[..., :2] / (total[..., 2:] + FADE)
    return np.asarray(cv2.resize(field, (size_px, size_px), interpolation=cv2.INTER_LINEAR), np.float32)
