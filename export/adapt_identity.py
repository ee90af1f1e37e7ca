"""What an actor pack keeps of whose face it is, from the frames that the actor is learned from."""

from collections.abc import Iterable, Iterator

import numpy as np

from engine.arrays import F32, U8
from engine.face.fit import Fitter
from engine.face.identity import FaceReader, cut_out, load_face_axes, mean_direction
from engine.face.model import FaceModel
from engine.face.presence import YAW_RETURN, yaw_degrees
from engine.face.track import to_rgb
from engine.image.yuv import Colour
from engine.media import VideoFrame

LOOKS = 60


class Introduction:
    """Looks at the person while a video's frames go by.

    Args:
        model: the face model.
        neutral: float32 [468, 3], the person's.
        landmarks: float32 [F, 478, 3] px of the frames; NaN: no face, or none that counts. At least one has.
    """

    def __init__(self, model: FaceModel, neutral: F32, landmarks: F32) -> None:
        self._axes, self._landmarks = load_face_axes(), landmarks
        self._reader = FaceReader(self._axes.cells, model)
        fitter = Fitter(model, neutral)
        seen = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
        ahead = [i for i in seen if yaw_degrees(fitter.fit(landmarks[i])) < YAW_RETURN]
        chosen = np.array(ahead or list(seen))
        at = np.linspace(0, len(chosen) - 1, min(LOOKS, len(chosen)))
        self._wanted = {int(index) for index in chosen[np.rint(at).astype(np.int64)]}
        self._directions: list[F32] = []

    def pictures(self, frames: Iterable[VideoFrame], colour: Colour) -> Iterator[U8]:
        """The frames as uint8 [H, W, 3], R'G'B'."""
        for index, frame in enumerate(frames):
            if index in self._wanted:
                patch = cut_out(frame.image, colour, self._landmarks[index])
                if patch is not None:
                    self._directions.append(self._axes.direction(self._reader.features(patch)))
            yield to_rgb(frame.image, colour)

    def extras(self) -> dict[str, F32]:
        """For the pack's extras; nothing if no frame showed the face."""
        if not self._directions:
            return {}
        return {self._axes.extra_name: mean_direction(np.stack(self._directions))}
