"""Where the drawn border lies in a video, and what it looks like there: `export.seam` over whole frames."""

import numpy as np

from engine.arrays import F32, U8
from engine.face.crop import CropBox, crop_pose, follow
from engine.face.fit import Fitter, person_neutral
from engine.face.model import load_face_model
from engine.image.resize import Square, inside, pad_to, resize
from engine.image.yuv import Box
from engine.render.mask import FEATHER_CM, MARGIN_CM, hull, soft_mask
from export.seam import SeamMeter, SeamScore

SIZE_PX = 256  # of the crops


class Border:
    """The border over the frames of a dub, beside the reference's on the same pixels.

    The mask is the one that a dub of the reference's frame is drawn with, computed anew from the reference's
    track, so that it is known without the dub saying so.

    Args:
        landmarks: float32 [F, 478, 3], px, of the whole reference; NaN where it shows no face.

    Raises:
        NoFaceError: no frame has a face.
    """

    def __init__(self, landmarks: F32) -> None:
        self._model = load_face_model()
        neutral = person_neutral(self._model, landmarks)
        self._fitter = Fitter(self._model, neutral)
        self._shape = self._model.extend(neutral)
        self._meter = SeamMeter()
        self._box: CropBox | None = None
        self._square: Square | None = None

    def add(self, out: U8, reference: U8, reference_face: F32, *, joined: bool) -> None:
        """Count one pair.

        Args:
            out: uint8 [H, W, 3].
            reference: the same of the real frame.
            reference_face: float32 [478, 3], px, finite.
            joined: this pair directly follows the one before, with no cut between.
        """
        state = self._fitter.fit(reference_face)
        self._box = follow(self._box if joined else None, state.pose)
        square = self._box.square
        crops = [_cut(picture, square) for picture in (out, reference)]
        pose = crop_pose(state.pose, square, SIZE_PX)
        corners = hull(self._model, self._shape, state.expression, pose)
        margin_px, feather_px = MARGIN_CM * pose.scale_px, FEATHER_CM * pose.scale_px
        mask = soft_mask(corners, margin_px, feather_px, SIZE_PX, SIZE_PX)
        ours, real = crops
        if ours is None or real is None:
            self._square = None
            return
        self._meter.add(ours, real, mask, joined=joined and square == self._square)
        self._square = square

    def result(self) -> SeamScore | None:
        """The score so far; `None` if no frame showed a border."""
        return self._meter.result()


def _cut(picture: U8, square: Square) -> U8 | None:
    """The square at `SIZE_PX`, the picture's border repeated beyond it; None where it is outside."""
    part: Box | None = inside(square, picture.shape[1], picture.shape[0])
    if part is None:
        return None
    shown = picture[part.y : part.y + part.height, part.x : part.x + part.width]
    return np.asarray(resize(pad_to(shown, part, square), SIZE_PX), np.uint8)
