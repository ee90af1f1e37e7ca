"""Putting the rendered lower face back into the frame without a seam.

Two things hide the border: the renderer's learned alpha, and a low-frequency colour match. Along the mask's
soft edge, where alpha lets the source through, both pictures show the same skin, so their smoothed difference
there says how far the renderer's light is off; that difference, carried inwards, is added. It is the membrane
of Poisson editing at an eighth of the resolution, without its flicker. Where alpha hides the source (its jaw
is elsewhere) the two are not compared: that would paint the source's chin into the light.
"""

from functools import cache

import cv2
import numpy as np

from engine.arrays import F32, U8
from engine.image.resize import Square, inside, resize
from engine.image.yuv import I420, Colour, write_roi

REDUCTION = 8
SMOOTH_SHARE = 0.14  # sigma of the smoothing, share of the crop's side
NO_RING = 0.06  # weight of a block below which there is nothing to compare
BORDER_SHARE = 0.06  # of the crop's side: where its mask fades towards the edge
STRONGEST = 24.0  # grey levels; more than that is not light but another object


def match_colour(rgb: U8, source: U8, mask: F32, alpha: F32) -> U8:
    """The rendered crop with the source's light.

    Args:
        rgb: uint8 [S, S, 3], rendered.
        source: uint8 [S, S, 3], the frame's crop.
        mask: float32 [S, S], soft; its ramp is where the two are compared.
        alpha: float32 [S, S], how much of `rgb` shows; the less, the more a pixel's comparison counts.
    """
    from engine.composite import _kernels

    size = rgb.shape[0]
    small = max(8, size // REDUCTION)
    packed = np.empty((small, small, 4), np.float32)
    _kernels.ring_difference(rgb, source, mask, alpha, np.float32(STRONGEST), packed)
    packed = cv2.GaussianBlur(packed, (0, 0), SMOOTH_SHARE * small, borderType=cv2.BORDER_CONSTANT)
    offset = packed[..., :3] / (packed[..., 3:] + NO_RING)
    offset = cv2.resize(offset, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.add(rgb, offset, dtype=cv2.CV_8U), np.uint8)


@cache
def border_window(size_px: int) -> F32:
    """What a crop's mask is multiplied by, float32 [S, S], read-only: 0 at the crop's edge, 1 well inside.

    The jaw of a broad or turned head reaches the crop's edge; there it would end in a straight seam.
    """
    from_edge = np.minimum(np.arange(size_px), np.arange(size_px)[::-1]) / (BORDER_SHARE * size_px)
    ramp = np.minimum(from_edge, 1).astype(np.float32)
    window = np.minimum(ramp[:, None], ramp)
    window.setflags(write=False)
    return window


def paste(image: I420, square: Square, colour: Colour, rgb: U8, mask: F32) -> None:
    """Blend a rendered crop [S, S, 3] into the frame, in place, by its mask [S, S].

    Pixels where the mask is 0 keep their bytes.
    """
    part = inside(square, image.width, image.height)
    if part is None:
        return
    side = square.side_px
    x, y = part.x - square.x, part.y - square.y
    picture = resize(rgb, side)[y : y + part.height, x : x + part.width]
    alpha = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)[
        y : y + part.height, x : x + part.width
    ]
    write_roi(image, part, np.ascontiguousarray(picture), np.clip(alpha, 0, 1), colour)
