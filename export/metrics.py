"""Image metrics of a dub against ground truth, one frame at a time (numpy and OpenCV only).

Regions come from the reference's landmarks, as the author of "Dubbing for Everyone" (arXiv 2401.06126)
measures: the face box is the tight box around the 468 landmarks of the *real* frame. Nothing here holds more
than two frames: the accumulators take one frame (or one pair of neighbours) and keep sums.

Images are uint8 `[H, W, 3]` RGB; landmarks are float32 `[478, 3]` or `[468, 2]` px in MediaPipe's order.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from engine.arrays import F32, F64, U8, Array
from engine.image.yuv import Box

PSNR_CEILING_DB = 100.0  # stands for "identical": JSON has no infinity, and a mean needs a finite value
SSIM_WINDOW_PX = 11  # 2 * round(3.5 sigma) + 1, as scikit-image truncates the Gaussian
SSIM_SIGMA_PX = 1.5
MOUTH_MARGIN = 0.20  # of the lip box's width and height, on each side
LMD_FACE_PX = 256.0

FACE_COUNT = 468  # landmarks 468..477 are irises
FACE_TOP = 10
CHIN = 152

# fmt: off
LIPS = np.array([
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
])
LOWER_FACE = np.array([
    # jaw line, ear to ear
    93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323,
    1, 2, 98, 327, 50, 280, 205, 425,  # nose and cheeks
])
# fmt: on
JAW_SWEEP = 0.25  # of the face's height: how far below the current chin an opened jaw may reach
MASK_DILATION = 0.08  # of the face box's larger side: feather and tracking error


@dataclass(slots=True)
class Mean:
    """Mean of the values seen so far; values that are not finite, and `None`, are not counted."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float | None) -> None:
        """Count one value."""
        if value is not None and math.isfinite(value):
            self.total += value
            self.count += 1

    def result(self) -> float | None:
        """The mean, or `None` before any value."""
        return self.total / self.count if self.count else None


@dataclass(slots=True)
class PooledPsnr:
    """PSNR of all pixels of all frames together: one bad frame cannot hide behind many perfect ones."""

    squared_error: float = 0.0
    count: int = 0

    def add(self, a: U8, b: U8, mask: U8 | None = None) -> None:
        """Count one frame pair `[H, W, 3]` where `mask` `[H, W]` is not 0 (everywhere if `None`)."""
        _check_pair(a, b)
        self.squared_error += float(cv2.norm(a, b, cv2.NORM_L2SQR, mask))
        self.count += 3 * (a.shape[0] * a.shape[1] if mask is None else int(cv2.countNonZero(mask)))

    def result(self) -> float | None:
        """dB, at most `PSNR_CEILING_DB`; `None` when no pixel was counted."""
        return _psnr_of(self.squared_error / self.count) if self.count else None


@dataclass(slots=True)
class Flicker:
    """How much the picture changes from frame to frame, against how much the real one changes.

    `ratio` is the sum of |out[t] - out[t-1]| over the sum of |ref[t] - ref[t-1]|, on the same pixels of
    the same frame pairs: 1 is as lively as the source, above 1 flickers (or moves too much), below 1 is
    smeared or frozen. `error_levels` is the mean of |(out[t] - out[t-1]) - (ref[t] - ref[t-1])| in grey
    levels: 0 only when every change is the real one, so it also sees flicker that replaces motion.
    """

    out_change: float = 0.0
    ref_change: float = 0.0
    error_sum: float = 0.0
    count: int = 0

    def add(self, out_before: U8, out: U8, ref_before: U8, ref: U8) -> None:
        """Count one pair of neighbouring frames: four crops `[H, W, 3]` of the same box."""
        _check_pair(out_before, out)
        _check_pair(ref_before, ref)
        _check_pair(out, ref)
        out_delta = out.astype(np.int16) - out_before
        ref_delta = ref.astype(np.int16) - ref_before
        self.out_change += float(np.abs(out_delta).sum(dtype=np.int64))
        self.ref_change += float(np.abs(ref_delta).sum(dtype=np.int64))
        self.error_sum += float(np.abs(out_delta - ref_delta).sum(dtype=np.int64))
        self.count += out.size

    def ratio(self) -> float | None:
        """Dimensionless; `None` when the reference hardly changes (below 0.01 grey levels on average)."""
        if self.count == 0 or self.ref_change < 0.01 * self.count:
            return None
        return self.out_change / self.ref_change

    def error_levels(self) -> float | None:
        """Grey levels of 255; `None` before any pair."""
        return self.error_sum / self.count if self.count else None


@dataclass(slots=True)
class FrameScores:
    """The picture scores of a run of frame pairs, given one by one; keeps the last pair and sums.

    Attributes:
        perceptual_distance: of two face crops; `None` measures none.
        frames: pairs so far.
        frames_face_lost: pairs in which the output shows no face.
    """

    perceptual_distance: Callable[[U8, U8], float] | None = None
    frames: int = 0
    frames_face_lost: int = 0
    face_psnr: Mean = field(default_factory=Mean)
    face_ssim: Mean = field(default_factory=Mean)
    mouth_psnr: Mean = field(default_factory=Mean)
    mouth_ssim: Mean = field(default_factory=Mean)
    mouth_lmd: Mean = field(default_factory=Mean)
    perceptual: Mean = field(default_factory=Mean)
    outside: PooledPsnr = field(default_factory=PooledPsnr)
    flicker: Flicker = field(default_factory=Flicker)
    _before: tuple[U8, U8] | None = None

    def add(
        self,
        out: U8,
        reference: U8,
        out_face: F32,
        reference_face: F32,
        *,
        joined: bool,
        perceptual: bool = True,
    ) -> None:
        """Count one pair.

        Args:
            out: uint8 [H, W, 3]; kept until the next call.
            reference: the same of the real frame.
            out_face: float32 [478, 3], px; NaN where no face was found.
            reference_face: float32 [478, 3], px, finite.
            joined: this pair directly follows the one before, with no cut between.
            perceptual: also measure the perceptual distance, which is slow.
        """
        self.frames += 1
        faces = [reference_face]
        if np.isfinite(out_face).all():
            faces.append(out_face)
            self.mouth_lmd.add(mouth_landmark_distance_px(out_face, reference_face))
        else:
            self.frames_face_lost += 1
        height_px, width_px = out.shape[:2]
        self.outside.add(out, reference, outside_mask(faces, height_px, width_px))
        box = face_box(reference_face, height_px, width_px)
        if box is not None:
            pair = crop(out, box), crop(reference, box)
            self.face_psnr.add(psnr_db(*pair))
            self.face_ssim.add(ssim(*pair))
            if perceptual and self.perceptual_distance is not None:
                self.perceptual.add(self.perceptual_distance(*pair))
        box = mouth_box(reference_face, height_px, width_px)
        if box is not None:
            pair = crop(out, box), crop(reference, box)
            self.mouth_psnr.add(psnr_db(*pair))
            self.mouth_ssim.add(ssim(*pair))
        box = lower_face_box(reference_face, height_px, width_px)
        if joined and self._before is not None and box is not None:
            before = crop(self._before[0], box), crop(self._before[1], box)
            self.flicker.add(before[0], crop(out, box), before[1], crop(reference, box))
        self._before = (out, reference)


def psnr_db(a: U8, b: U8) -> float:
    """Peak signal-to-noise ratio of two uint8 images of one shape, in dB, at most `PSNR_CEILING_DB`."""
    _check_pair(a, b)
    return _psnr_of(float(cv2.norm(a, b, cv2.NORM_L2SQR)) / a.size)


def ssim(a: U8, b: U8) -> float | None:
    """Structural similarity of two RGB images: Gaussian window, mean over channels, as the 2004 paper.

    Equal to scikit-image's `structural_similarity(channel_axis=2, data_range=255, gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False)` without its import at run time.

    Returns:
        -1..1, or `None` when a side is shorter than the window (11 px).
    """
    _check_pair(a, b)
    if min(a.shape[:2]) < SSIM_WINDOW_PX:
        return None
    x, y = a.astype(np.float64), b.astype(np.float64)
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    mean_xy, mean_xx, mean_yy = mean_x * mean_y, mean_x * mean_x, mean_y * mean_y
    covariance = _blur(x * y) - mean_xy
    variances = _blur(x * x) - mean_xx + _blur(y * y) - mean_yy
    similarity = ((2 * mean_xy + c1) * (2 * covariance + c2)) / ((mean_xx + mean_yy + c1) * (variances + c2))
    edge = SSIM_WINDOW_PX // 2
    return float(similarity[edge : -edge or None, edge : -edge or None].mean())


def face_box(landmarks: F32, height_px: int, width_px: int) -> Box | None:
    """The tight box around the face's 468 landmarks, cut at the picture's border.

    Returns:
        A box, or `None` when less than 11 px of a side is inside the picture.

    Raises:
        ValueError: a landmark is not finite.
    """
    return _box_around(landmarks[:FACE_COUNT], 0.0, height_px, width_px)


def mouth_box(landmarks: F32, height_px: int, width_px: int) -> Box | None:
    """The box around the lips with a fifth of its size added on each side; else as `face_box`."""
    return _box_around(landmarks[LIPS], MOUTH_MARGIN, height_px, width_px)


def lower_face_box(landmarks: F32, height_px: int, width_px: int) -> Box | None:
    """The box around cheeks, nose tip and jaw line, where flicker is measured; else as `face_box`."""
    return _box_around(landmarks[LOWER_FACE], 0.0, height_px, width_px)


def crop(image: U8, box: Box) -> U8:
    """The part of `image` `[H, W, 3]` inside `box`; a view."""
    return image[box.y : box.y + box.height, box.x : box.x + box.width]


def mouth_landmark_distance_px(out: F32, reference: F32) -> float:
    """Mean distance of the 40 lip landmarks, as if the reference's face box were 256 px on its larger side.

    Args:
        out: float32 [478, 2 or 3], px; only x and y are used.
        reference: the same of the real frame.

    Raises:
        ValueError: a landmark of the reference is not finite, or its face has no size.
    """
    size_px = _face_size_px(reference)
    distance_px = np.linalg.norm(out[LIPS, :2].astype(np.float64) - reference[LIPS, :2], axis=1)
    return float(distance_px.mean() * LMD_FACE_PX / size_px)


def outside_mask(faces: list[F32], height_px: int, width_px: int) -> U8:
    """Where a dub must not touch the picture: all but the lower face over every jaw opening.

    For each face: the convex hull of the lower face, swept down along the face by a quarter of its height,
    and dilated by 8 % of its size. A dub's own mask is smaller; what it changes beyond this one is damage.

    Args:
        faces: landmarks float32 [478, 2 or 3], px, of the reference and of the output.
        height_px: of the picture.
        width_px: of the picture.

    Returns:
        uint8 [H, W]: 255 outside, 0 inside.
    """
    mask = np.full((height_px, width_px), 255, np.uint8)
    for face in faces:
        down = (face[CHIN, :2] - face[FACE_TOP, :2]) * JAW_SWEEP
        points = np.concatenate((face[LOWER_FACE, :2], face[LOWER_FACE, :2] + down))
        hull = cv2.convexHull(np.rint(points).astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 0)
        radius_px = round(MASK_DILATION * _face_size_px(face))
        cv2.polylines(mask, [hull], isClosed=True, color=0, thickness=2 * radius_px + 1)
    return mask


def _psnr_of(mean_squared_error: float) -> float:
    floor = 255.0**2 / 10 ** (PSNR_CEILING_DB / 10)
    return 10.0 * math.log10(255.0**2 / max(mean_squared_error, floor))


def _blur(image: F64) -> Array:
    window = (SSIM_WINDOW_PX, SSIM_WINDOW_PX)
    blurred: Array = cv2.GaussianBlur(image, window, SSIM_SIGMA_PX, borderType=cv2.BORDER_REFLECT)
    return blurred


def _face_size_px(landmarks: F32) -> float:
    points = landmarks[:FACE_COUNT, :2].astype(np.float64)
    size_px = float((points.max(0) - points.min(0)).max())
    if not size_px > 0.0:
        raise ValueError(f"{size_px = } of a face must be positive and finite")
    return size_px


def _box_around(points: F32, margin: float, height_px: int, width_px: int) -> Box | None:
    xy = points[:, :2].astype(np.float64)
    if not np.isfinite(xy).all():
        raise ValueError("landmarks must be finite")
    low, high = xy.min(0), xy.max(0)
    border = (high - low) * margin
    limit = np.array([width_px, height_px])
    x0, y0 = (int(v) for v in np.clip(np.floor(low - border), 0, limit))
    x1, y1 = (int(v) for v in np.clip(np.ceil(high + border), 0, limit))
    if min(x1 - x0, y1 - y0) < SSIM_WINDOW_PX:
        return None
    return Box(x0, y0, x1 - x0, y1 - y0)


def _check_pair(a: U8, b: U8) -> None:
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise TypeError(f"images must be uint8, got {a.dtype} and {b.dtype}")
    if a.shape != b.shape or a.ndim != 3 or a.shape[2] != 3 or a.size == 0:
        raise ValueError(f"images must be [H, W, 3] of one size, got {list(a.shape)} and {list(b.shape)}")
