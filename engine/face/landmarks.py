"""478 face landmarks inside a rotated square, by MediaPipe's FaceLandmarker network (Apache-2.0).

Points 0..467 are MediaPipe's face mesh, 468..477 the two irises. Positions as in `engine.face.detector`.
"""

import math
from dataclasses import dataclass

import numpy as np

from engine.arrays import F32, U8
from engine.backends.network import Network
from engine.face.detector import Region

COUNT = 478
INPUT_SIDE_PX = 256
REGION_PER_EXTENT = 1.5  # side of the next frame's region in the landmarks' longer extent (MediaPipe)
RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263  # of the person


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of one face in one picture.

    Attributes:
        points: float32 [478, 3]: x and y in px of the picture, z in the same unit (smaller = nearer, 0 at
            the head's centre); a point may lie outside the picture.
        confidence: 0..1 that the square showed a face.
    """

    points: F32
    confidence: float

    def region(self) -> Region:
        """The square for the next frame."""
        low, high = self.points[:, :2].min(axis=0), self.points[:, :2].max(axis=0)
        eyes = self.points[LEFT_EYE_OUTER, :2] - self.points[RIGHT_EYE_OUTER, :2]
        centre = (low + high) / 2
        side = float((high - low).max()) * REGION_PER_EXTENT
        return Region(float(centre[0]), float(centre[1]), side, math.atan2(float(eyes[1]), float(eyes[0])))


class LandmarkNetwork:
    """Reads landmarks out of a region of a picture; keeps nothing between calls."""

    def __init__(self, network: Network) -> None:
        """Wrap the landmark network.

        Args:
            network: takes `input_12` float32 [1, 256, 256, 3] in 0..1; gives `Identity` [1, 1, 1, 1434], px
                of the input, and `Identity_1` [1, 1, 1, 1], the logit of the confidence.
        """
        self._network = network

    def read(self, rgb: U8, region: Region) -> Landmarks:
        """The landmarks of the face in `region`; meaningless if the confidence is low.

        Args:
            rgb: uint8 [H, W, 3].
            region: around one face.
        """
        crop = region.crop(rgb, INPUT_SIDE_PX)
        x = np.multiply(crop, np.float32(1 / 255), dtype=np.float32)
        outputs = self._network.run({"input_12": x[None]})
        raw = outputs["Identity"].reshape(COUNT, 3).astype(np.float64)
        to_image = region.to_image(INPUT_SIDE_PX).astype(np.float64)
        points = np.empty((COUNT, 3), np.float32)
        points[:, :2] = raw[:, :2] @ to_image[:, :2].T + to_image[:, 2]
        points[:, 2] = raw[:, 2] * (region.side_px / INPUT_SIDE_PX)
        return Landmarks(points, _sigmoid(float(outputs["Identity_1"].item())))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -80.0), 80.0)))
