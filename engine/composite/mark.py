"""A label in the picture's corner that tells everybody who looks: this was dubbed by an AI.

It belongs to the picture, not to the face: it is the same in every frame, whether or not a mouth was drawn,
so that nothing flickers. It costs some ten microseconds a frame.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.arrays import F32, U8
from engine.image.yuv import I420

Mark = Literal["none", "visible"]
TEXT = "AI dub"
HEIGHT_SHARE, LEAST_HEIGHT_PX = 0.06, 20  # of the label; of the picture's shorter side
MARGIN_SHARE = 0.03  # from the top and from the left, of the shorter side
_BOX, _INK, _GREY = 16.0, 235.0, 128.0  # within the limited range, and so within the full one
_BOX_ALPHA = 0.6
_SCALE, _THICKNESS, _PAD_PX = 2.0, 5, 24  # of the large drawing


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one plane becomes: (plane * keep + add) >> 8, all uint16."""

    rows: slice
    columns: slice
    keep: NDArray[np.uint16]
    add: NDArray[np.uint16]

    @classmethod
    def of(cls, x: int, y: int, alpha: F32, value: F32) -> "_Layer":
        height, width = alpha.shape
        keep = np.rint(256 * (1 - alpha))
        return cls(
            slice(y, y + height),
            slice(x, x + width),
            keep.astype(np.uint16),
            np.rint((256 - keep) * value).astype(np.uint16),
        )

    def lay(self, plane: U8) -> None:
        part = plane[self.rows, self.columns]
        np.right_shift(part * self.keep + self.add, 8, out=part, casting="unsafe")


def stamp(image: I420) -> None:
    """Put the label into the upper left corner, in place; a picture too small for it stays as it is."""
    layers = _layers(image.width, image.height)
    for layer, plane in zip(layers, (image.y, image.u, image.v), strict=False):
        layer.lay(plane)


@lru_cache(maxsize=16)
def _layers(width: int, height: int) -> tuple[_Layer, ...]:
    """The label for pictures of one size, on even pixels: one layer a plane, or none."""
    import cv2

    alpha, ink = _drawn()
    side = min(width, height)
    margin = round(MARGIN_SHARE * side) // 2 * 2
    label_height = max(LEAST_HEIGHT_PX, round(HEIGHT_SHARE * side)) // 2 * 2
    label_width = round(label_height * alpha.shape[1] / alpha.shape[0]) // 2 * 2
    if margin + label_width > width or margin + label_height > height:
        return ()

    def scaled(plane: F32, by: int) -> F32:
        size = label_width // by, label_height // by
        return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)

    luma = _Layer.of(margin, margin, scaled(alpha, 1), _BOX + (_INK - _BOX) * scaled(ink, 1))
    quarter = scaled(alpha, 2)
    chroma = _Layer.of(margin // 2, margin // 2, quarter, np.full_like(quarter, _GREY))
    return luma, chroma, chroma


def _drawn() -> tuple[F32, F32]:
    """The label, large: how much of it covers the picture, and where its ink is, float32 [H, W], 0..1."""
    import cv2

    font = cv2.FONT_HERSHEY_SIMPLEX
    (text_width, text_height), below = cv2.getTextSize(TEXT, font, _SCALE, _THICKNESS)
    size = text_height + below // 2 + 2 * _PAD_PX, text_width + 2 * _PAD_PX
    ink: U8 = np.zeros(size, np.uint8)
    cv2.putText(ink, TEXT, (_PAD_PX, _PAD_PX + text_height), font, _SCALE, 255, _THICKNESS, cv2.LINE_AA)
    share = np.asarray(ink, np.float32) / np.float32(255)
    return np.maximum(share, np.float32(_BOX_ALPHA)), share
