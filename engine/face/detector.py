"""Face detector: where faces are in a picture, by MediaPipe's short-range BlazeFace network (Apache-2.0).

Positions are px with the centre of the top left pixel at (0, 0), x to the right, y down; angles in radians,
clockwise as seen, 0 for an upright face.

Source of the decoding: BlazeFace, arXiv:1907.05047; anchors and constants as in MediaPipe's
`face_detection_short_range` graph.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from engine.arrays import F32, U8, Array, check_array
from engine.backends.network import Network
from engine.image.yuv import Box

INPUT_SIDE_PX = 128
MIN_SCORE = 0.5
MAX_OVERLAP = 0.3  # IoU above which the weaker of two boxes is the same face
REGION_PER_BOX = 1.5  # side of a landmark region in sides of the detector's box
WIDE = 1.2  # aspect ratio from which squares along the longer side are tried too
CONFIRM_SCALE = 1.6  # side of the square that `confirm` looks at, in sides of the region
CONFIRM_MIN_SCORE = 0.35  # a tracked face may be turned further than one that is found anew
CONFIRM_MAX_SHIFT = 0.35  # distance of the two centres, in sides of the region
CONFIRM_MAX_RATIO = 2.2  # between the two sides


@dataclass(frozen=True)
class Region:
    """A rotated square around a face.

    Attributes:
        x_px: centre.
        y_px: centre.
        side_px: length of a side, > 0.
        angle_rad: of the line from the picture's left eye to the right one.
    """

    x_px: float
    y_px: float
    side_px: float
    angle_rad: float

    def larger(self, times: float) -> "Region":
        """The square with the same centre and sides that many times as long."""
        return replace(self, side_px=self.side_px * times)

    def to_image(self, size_px: int) -> F32:
        """Affine map float32 [2, 3] from a `size_px` square cut-out to the picture."""
        a = math.cos(self.angle_rad) * self.side_px / size_px
        b = math.sin(self.angle_rad) * self.side_px / size_px
        half = size_px / 2
        return np.array(
            [[a, -b, self.x_px - half * a + half * b], [b, a, self.y_px - half * b - half * a]], np.float32
        )

    def crop(self, rgb: U8, size_px: int) -> U8:
        """The square cut out and turned upright, U8 [size_px, size_px, 3]; black outside the picture."""
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cut = cv2.warpAffine(rgb, self.to_image(size_px), (size_px, size_px), flags=flags)
        return np.asarray(cut, np.uint8)


@dataclass(frozen=True)
class Detection:
    """One found face.

    Attributes:
        x_px: centre of the box.
        y_px: centre of the box.
        width_px: of the upright box.
        height_px: of the upright box.
        angle_rad: of the line between the eyes.
        score: 0..1.
    """

    x_px: float
    y_px: float
    width_px: float
    height_px: float
    angle_rad: float
    score: float

    def region(self) -> Region:
        """The square that the landmark network wants."""
        side = max(self.width_px, self.height_px) * REGION_PER_BOX
        return Region(self.x_px, self.y_px, side, self.angle_rad)

    def moved(self, x_px: float, y_px: float) -> "Detection":
        """The same face in a picture whose origin lies (`x_px`, `y_px`) to the left and above."""
        return replace(self, x_px=self.x_px + x_px, y_px=self.y_px + y_px)

    def scaled(self, x: float, y: float) -> "Detection":
        """The same face in a picture `x` times as wide and `y` times as high."""
        return replace(
            self,
            x_px=(self.x_px + 0.5) * x - 0.5,
            y_px=(self.y_px + 0.5) * y - 0.5,
            width_px=self.width_px * x,
            height_px=self.height_px * y,
        )


class FaceDetector:
    """Finds faces in one picture at a time; keeps nothing between calls."""

    def __init__(self, network: Network, *, min_score: float = MIN_SCORE) -> None:
        """Wrap the detector network.

        Args:
            network: takes `input` float32 [1, 128, 128, 3] in -1..1; gives `regressors` [1, 896, 16] and
                `classificators` [1, 896, 1].
            min_score: a face's least score, 0..1.
        """
        self._network = network
        self._min_score = min_score

    def detect(self, rgb: U8) -> list[Detection]:
        """All faces, best score first, no two of the same face: `look` into all `windows`.

        Args:
            rgb: uint8 [H, W, 3].
        """
        check_array("rgb", rgb, (None, None, 3), np.uint8)
        height, width = rgb.shape[:2]
        return suppress([one for window in windows(height, width) for one in self.look(rgb, window)])

    def look(self, rgb: U8, window: Box) -> list[Detection]:
        """The faces in one window, px of the picture, without those that the window's edge cuts through.

        Args:
            rgb: uint8 [H, W, 3]; only what is in the window counts.
            window: one of `windows`.
        """
        height, width = rgb.shape[:2]
        small = rgb[window.y : window.y + window.height, window.x : window.x + window.width]
        scale = _scale(height, width)
        for _ in range(scale.bit_length() - 1):
            small = halve(small)
        found = self._in_window(small, window.x // scale, window.y // scale)
        if (window.width, window.height) != (width, height):
            height, width, side = height // scale, width // scale, small.shape[0]
            x, y = window.x // scale, window.y // scale
            found = [one for one in found if _whole(one, x, y, side, width, height)]
        return [one.scaled(scale, scale) for one in found]

    def confirm(self, rgb: U8, region: Region) -> bool:
        """Whether the detector sees a face of about that place and size; one run on a cut-out.

        Args:
            rgb: uint8 [H, W, 3].
            region: of the tracked face.
        """
        wide = region.larger(CONFIRM_SCALE)
        found = self._run(wide.crop(rgb, INPUT_SIDE_PX), CONFIRM_MIN_SCORE)
        scale = wide.side_px / INPUT_SIDE_PX
        for one in found:
            shift = math.hypot(one.x_px - INPUT_SIDE_PX / 2, one.y_px - INPUT_SIDE_PX / 2) * scale
            ratio = one.region().side_px * scale / region.side_px
            near = shift < CONFIRM_MAX_SHIFT * region.side_px
            if near and 1 / CONFIRM_MAX_RATIO < ratio < CONFIRM_MAX_RATIO:
                return True
        return False

    def _in_window(self, rgb: U8, x: int, y: int) -> list[Detection]:
        """Faces of a window whose top left pixel is (x, y) of the picture, in px of the picture."""
        height, width = rgb.shape[:2]
        scale = INPUT_SIDE_PX / max(height, width)
        small_width, small_height = (max(1, round(n * scale)) for n in (width, height))
        left, top = (INPUT_SIDE_PX - small_width) // 2, (INPUT_SIDE_PX - small_height) // 2
        square = np.zeros((INPUT_SIDE_PX, INPUT_SIDE_PX, 3), np.uint8)
        square[top : top + small_height, left : left + small_width] = shrink(rgb, small_width, small_height)
        x_scale, y_scale = width / small_width, height / small_height
        found = (
            one.moved(-left, -top).scaled(x_scale, y_scale) for one in self._run(square, self._min_score)
        )
        return [one.moved(x, y) for one in found]

    def _run(self, square: U8, min_score: float) -> list[Detection]:
        """Decoded boxes above `min_score` in px of the 128 px square, not yet suppressed."""
        x = np.multiply(square, np.float32(1 / 127.5), dtype=np.float32) - np.float32(1)
        outputs = self._network.run({"input": x[None]})
        scores = _sigmoid(outputs["classificators"][0, :, 0])
        keep = np.flatnonzero(scores > min_score)
        boxes = outputs["regressors"][0, keep].astype(np.float64)
        boxes[:, [0, 4, 6]] += ANCHORS[keep, :1] * INPUT_SIDE_PX
        boxes[:, [1, 5, 7]] += ANCHORS[keep, 1:] * INPUT_SIDE_PX
        positive = (box[2:4].min() > 0 for box in boxes)
        found = zip(boxes, scores[keep], positive, strict=True)
        return [_detection(box, float(score)) for box, score, good in found if good]


def _detection(box: Array, score: float) -> Detection:
    """From centre, size and the first two key points (the person's right and left eye), all px."""
    x, y, width, height, right_x, right_y, left_x, left_y = (float(n) for n in box[:8])
    return Detection(x, y, width, height, math.atan2(left_y - right_y, left_x - right_x), score)


def windows(height: int, width: int) -> list[Box]:
    """What a picture is looked at in: all of it and, if it is wide or tall, squares of its shorter side.

    They overlap. The network's input has 128 px, so a face needs about an eighth of what is looked at.
    """
    if min(height, width) < 2:
        return []
    whole = Box(0, 0, width, height)
    scale = _scale(height, width)
    small_height, small_width = height // scale, width // scale
    if max(small_height, small_width) <= WIDE * min(small_height, small_width):
        return [whole]
    squares = _squares(small_width, small_height)
    return [whole, *(Box(scale * x, scale * y, scale * side, scale * side) for x, y, side in squares)]


def _scale(height: int, width: int) -> int:
    """By how much a picture is made smaller first, by halving, which is fast."""
    scale = 1
    while min(height, width) // scale >= 4 * INPUT_SIDE_PX:
        scale *= 2
    return scale


def suppress(found: list[Detection]) -> list[Detection]:
    """One detection per face, best score first: a box that overlaps a better one is dropped."""
    kept: list[Detection] = []
    for one in sorted(found, key=lambda d: -d.score):
        if all(_overlap(one, better) <= MAX_OVERLAP for better in kept):
            kept.append(one)
    return kept


def halve(rgb: U8) -> U8:
    """The mean of every 2 x 2 pixels; an odd last row or column is left out."""
    height, width = rgb.shape[0] // 2, rgb.shape[1] // 2
    return shrink(rgb[: 2 * height, : 2 * width], width, height)


def shrink(rgb: U8, width: int, height: int) -> U8:
    """The picture at `width` x `height` px, area-averaged where that makes it smaller."""
    smaller = width <= rgb.shape[1] and height <= rgb.shape[0]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=method), np.uint8)


def _whole(one: Detection, x: int, y: int, side: int, width: int, height: int) -> bool:
    """Whether no edge of a window, other than the picture's own edges, cuts through the box."""
    margin_x, margin_y = one.width_px / 2, one.height_px / 2
    return (
        (x == 0 or one.x_px - margin_x >= x)
        and (y == 0 or one.y_px - margin_y >= y)
        and (x + side == width or one.x_px + margin_x <= x + side)
        and (y + side == height or one.y_px + margin_y <= y + side)
    )


def _overlap(a: Detection, b: Detection) -> float:
    """Intersection over union of the two boxes, 0..1."""
    across = min(a.x_px + a.width_px / 2, b.x_px + b.width_px / 2) - max(
        a.x_px - a.width_px / 2, b.x_px - b.width_px / 2
    )
    down = min(a.y_px + a.height_px / 2, b.y_px + b.height_px / 2) - max(
        a.y_px - a.height_px / 2, b.y_px - b.height_px / 2
    )
    if across <= 0 or down <= 0:
        return 0.0
    both = across * down
    return both / (a.width_px * a.height_px + b.width_px * b.height_px - both)


def _squares(width: int, height: int) -> list[tuple[int, int, int]]:
    """Left, top and side of squares of the shorter side that cover the picture with at least half overlap."""
    side = min(width, height)
    spare = max(width, height) - side
    count = math.ceil(spare / (side / 2)) + 1
    at = [round(i * spare / (count - 1)) for i in range(count)]
    return [(n, 0, side) if width > height else (0, n, side) for n in at]


def _anchors() -> Array:
    """Centres float64 [896, 2] in 0..1: two per cell of a 16 x 16 grid, then six per cell of 8 x 8."""
    anchors = []
    for cells, each in ((16, 2), (8, 6)):
        centre = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(centre, centre), axis=-1).reshape(-1, 2)
        anchors.append(np.repeat(grid, each, axis=0))
    return np.concatenate(anchors)


def _sigmoid(x: F32) -> F32:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -80, 80))), np.float32)


ANCHORS = _anchors()
