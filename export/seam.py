"""Is there a seam? Steps, edges and flicker along the border of what was drawn, against the source's own.

All is measured around the mask's outline, where a seam would lie. The outline is cut into sectors, and each
sector into lines one pixel wide that run along the outline at a distance t from it, t > 0 inside. A seam runs
along such a line; skin, beard and wrinkles do not. So:

* *step* at t: the mean of three lines on its inner side less that of three lines on its outer side, less the
  same on either side of it, so that an even shading counts as none; grey levels, absolute, at most 8, mean
  over sectors and colours;
* *gradient* at t: how steep single pixels are across the line, grey levels per pixel, mean over its pixels;
* *flicker*: how much the lines' means change from frame to frame, grey levels.

Each is measured in the composite and, on the same pixels, in the source. A planted seam is one at *some* t
and hardly shows in a mean over all of them, so step and gradient are reported for the t at which composite
and source differ most. `within_source` is the bar.

The source must show the same skin around the mask: the frame that was dubbed, or the truth of a
self-reenactment. It may move its mouth differently.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.arrays import F32, F64, U8, Bool

I64 = NDArray[np.int64]

SECTORS = 24
SIDE_PX = 256  # the reach is given for crops of this side
INSIDE_PX, OUTSIDE_PX = 22, 14  # how far around the outline a seam is looked for
LINES = 3  # on each side of a step
FEWEST = 4  # pixels of a sector's line; with fewer its mean says nothing
EDGE_PX = 2  # pixels at the crop's border that are not looked at: its colours repeat beyond
HALF = 0.5  # the mask's outline
SMOOTH_PX = 3.0  # sigma, of the outline's normals
LEVELS, PER_LEVEL = 64, 8  # of the histograms: grey levels, and how fine
SMALLEST = 0.25  # grey levels, added to both sides of a ratio: what is that small is not seen

STRONGEST = 8.0  # grey levels: a collar or a jaw against the background counts no more than that
STEP_RATIO = 1.2
GRADIENT_RATIO = (0.75, 1.25)
FLICKER_RATIO = 1.2
SHARE = 0.95  # of the source's steps: the end of its own range


@dataclass(frozen=True, slots=True)
class SeamScore:
    """What the border of a composite looks like beside that of the source; grey levels of 255.

    Attributes:
        step: mean step across the line along which the composite's are largest against the source's.
        step_source: the source's there.
        step_median: median of the composite's steps there, over sectors and frames.
        step_range_source: 95 % of the source's steps there are smaller.
        step_error: mean difference of composite's and source's steps where it is largest; 0: the same.
        gradient: mean steepness of pixels across the line where it differs most from the source's.
        gradient_source: the source's there.
        flicker: mean change of lines from frame to frame; 0 before a second frame.
        flicker_source: the source's.
    """

    step: float
    step_source: float
    step_median: float
    step_range_source: float
    step_error: float
    gradient: float
    gradient_source: float
    flicker: float
    flicker_source: float

    @property
    def step_ratio(self) -> float:
        """1 is as even as the source; above, there is an edge."""
        return _ratio(self.step, self.step_source)

    @property
    def gradient_ratio(self) -> float:
        """1 is as sharp as the source; above, there is an edge; below, a blurred border."""
        return _ratio(self.gradient, self.gradient_source)

    @property
    def flicker_ratio(self) -> float:
        """1 is as steady as the source; above, the border flickers."""
        return _ratio(self.flicker, self.flicker_source)

    @property
    def within_source(self) -> bool:
        """Whether the border is as even, as sharp and as steady as the source's own range allows."""
        low, high = GRADIENT_RATIO
        return (
            self.step_median <= self.step_range_source
            and self.step_ratio <= STEP_RATIO
            and low <= self.gradient_ratio <= high
            and self.flicker_ratio <= FLICKER_RATIO
        )


def seam(composite: U8, source: U8, mask: F32) -> SeamScore:
    """The border of one frame; for clips, which average over more, see `SeamMeter`.

    Args:
        composite: uint8 [S, S, 3], RGB, what the viewer sees.
        source: uint8 [S, S, 3], RGB.
        mask: float32 [S, S], how much of the drawn picture shows; its outline is where it is 0.5.

    Raises:
        ValueError: the sizes differ, or the mask has no outline in the crop.
    """
    meter = SeamMeter()
    if not meter.add(composite, source, mask):
        raise ValueError("the mask has no outline in the crop")
    score = meter.result()
    if score is None:
        raise ValueError("the mask's outline is too short to measure")
    return score


@dataclass(slots=True)
class SeamMeter:
    """The border over a clip's frames, given one by one; keeps sums and the last frame's lines.

    Attributes:
        frames: measured so far.
    """

    frames: int = 0
    _lines: int = 0
    _sums: dict[str, F64] = field(default_factory=dict)
    _histogram: dict[str, F64] = field(default_factory=dict)
    _before: tuple[F64, F64] | None = None
    _flicker: tuple[float, float, int] = (0.0, 0.0, 0)

    def add(self, composite: U8, source: U8, mask: F32, *, joined: bool = False) -> bool:
        """Count one frame.

        Args:
            composite: uint8 [S, S, 3].
            source: uint8 [S, S, 3].
            mask: float32 [S, S].
            joined: this frame directly follows the one before, shows the same square, with no cut between.

        Returns:
            Whether there was an outline to measure.

        Raises:
            ValueError: the sizes differ from each other, or from the frames before.
        """
        _check(composite, source, mask)
        ring = _ring(mask)
        if ring is None:
            self._before = None
            return False
        if self._lines not in (0, ring.lines):
            raise ValueError("all crops of a clip must have one size")
        self._lines = ring.lines
        means = ring.means(composite), ring.means(source)
        self._steps(*(_steps(m) for m in means))
        for name, image in (("gradient", composite), ("gradient_source", source)):
            self._count(name, ring.steepness(image))
        self._count("pixels", ring.per_line)
        if joined and self._before is not None:
            self._flickers(means)
        self._before = means
        self.frames += 1
        return True

    def result(self) -> SeamScore | None:
        """The score so far; `None` before any frame."""
        steps = self._sums.get("steps")
        if steps is None or not (steps > 0).any():
            return None
        ours, real, error = (_mean(self._sums[name], steps) for name in ("step", "step_source", "step_error"))
        t = int(np.nanargmax(np.where(steps > 0, (ours + SMALLEST) / (real + SMALLEST), np.nan)))
        sharp, sharp_source = (
            _mean(self._sums[name], self._sums["pixels"]) for name in ("gradient", "gradient_source")
        )
        away = np.abs(np.log((sharp + SMALLEST) / (sharp_source + SMALLEST)))
        u = int(np.nanargmax(np.where(self._sums["pixels"] > 0, away, np.nan)))
        changed, changed_source, pairs = self._flicker
        return SeamScore(
            step=float(ours[t]),
            step_source=float(real[t]),
            step_median=_quantile(self._histogram["step"][t], 0.5),
            step_range_source=_quantile(self._histogram["step_source"][t], SHARE),
            step_error=float(np.nanmax(error)),
            gradient=float(sharp[u]),
            gradient_source=float(sharp_source[u]),
            flicker=changed / pairs if pairs else 0.0,
            flicker_source=changed_source / pairs if pairs else 0.0,
        )

    def _steps(self, ours: F64, real: F64) -> None:
        """Steps [sectors, lines, 3] of one frame, NaN where there are none."""
        known = np.asarray(np.isfinite(ours + real).all(axis=2))
        for name, values in (("step", ours), ("step_source", real), ("step_error", ours - real)):
            size = np.where(known, np.abs(values).mean(2), 0.0)
            self._count(name, np.minimum(size, STRONGEST).sum(0))
            if name != "step_error":
                self._spread(name, size, known)
        self._count("steps", known.sum(0).astype(np.float64))

    def _spread(self, name: str, size: F64, known: Bool) -> None:
        counts = self._histogram.setdefault(name, np.zeros((size.shape[1], LEVELS * PER_LEVEL)))
        level = np.minimum(size * PER_LEVEL, LEVELS * PER_LEVEL - 1).astype(np.int64)
        line = np.broadcast_to(np.arange(size.shape[1]), size.shape)
        np.add.at(counts, (line[known], level[known]), 1.0)

    def _flickers(self, means: tuple[F64, F64]) -> None:
        before = self._before
        if before is None:
            return
        changes = [np.abs(new - old).mean(2) for new, old in zip(means, before, strict=True)]
        known = np.isfinite(changes[0]) & np.isfinite(changes[1])
        ours, real = (float(change[known].sum()) for change in changes)
        self._flicker = (
            self._flicker[0] + ours,
            self._flicker[1] + real,
            self._flicker[2] + int(known.sum()),
        )

    def _count(self, name: str, values: F64) -> None:
        self._sums[name] = self._sums[name] + values if name in self._sums else values.astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Ring:
    """The pixels around an outline.

    Attributes:
        rows, columns: int64 [N], where they are.
        cell: int64 [N], sector * lines + line.
        line: int64 [N].
        normal: float64 [N, 2], x and y, of length 1.
        lines: how many there are.
    """

    rows: I64
    columns: I64
    cell: I64
    line: I64
    normal: F64
    lines: int

    @property
    def per_line(self) -> F64:
        """Number of pixels of each line, float64 [lines]."""
        return np.bincount(self.line, minlength=self.lines).astype(np.float64)

    def means(self, image: U8) -> F64:
        """Mean colour float64 [sectors, lines, 3] of each sector's lines; NaN where pixels are few."""
        values = image[self.rows, self.columns].astype(np.float64)
        cells = SECTORS * self.lines
        count = np.bincount(self.cell, minlength=cells)
        sums = np.stack([np.bincount(self.cell, values[:, c], cells) for c in range(3)], -1)
        enough = np.where(count >= FEWEST, count, np.nan)
        return np.asarray(sums / enough[:, None]).reshape(SECTORS, self.lines, 3)

    def steepness(self, image: U8) -> F64:
        """Sum over each line's pixels of how much neighbours across it differ, float64 [lines]."""
        wide = image.astype(np.float32)
        dx, dy = (cv2.filter2D(wide, cv2.CV_32F, kernel) for kernel in _DIFFERENCES)
        where = self.rows, self.columns
        across = dx[where] * self.normal[:, :1] + dy[where] * self.normal[:, 1:]
        return np.bincount(self.line, np.abs(across).mean(1), self.lines).astype(np.float64)


_DIFFERENCES = (
    np.array([[-0.5, 0.0, 0.5]], np.float32),
    np.array([[-0.5], [0.0], [0.5]], np.float32),
)


def _ring(mask: F32) -> _Ring | None:
    """The pixels around the mask's outline; None if it has none."""
    drawn = (mask >= HALF).astype(np.uint8)
    if drawn.all() or not drawn.any():
        return None
    size = mask.shape[0]
    inside = cv2.distanceTransform(drawn, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform(1 - drawn, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = np.where(drawn > 0, inside - 0.5, 0.5 - outside)
    reach_in, reach_out = (max(3 * LINES, round(px * size / SIDE_PX)) for px in (INSIDE_PX, OUTSIDE_PX))
    line = np.floor(distance).astype(np.int64) + reach_out
    near = (line >= 0) & (line < reach_in + reach_out)
    near[:EDGE_PX] = near[-EDGE_PX:] = near[:, :EDGE_PX] = near[:, -EDGE_PX:] = False
    rows, columns = np.nonzero(near)
    if not len(rows):
        return None
    ys, xs = np.nonzero(drawn)
    angle = np.arctan2(rows - ys.mean(), columns - xs.mean()) / (2 * np.pi) % 1.0
    sector = np.minimum((angle * SECTORS).astype(np.int64), SECTORS - 1)
    soft = cv2.GaussianBlur(distance.astype(np.float32), (0, 0), SMOOTH_PX)
    slope = np.stack([cv2.filter2D(soft, cv2.CV_32F, kernel)[near] for kernel in _DIFFERENCES], -1)
    normal = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-6)
    lines = reach_in + reach_out
    return _Ring(rows, columns, sector * lines + line[near], line[near], normal.astype(np.float64), lines)


def _steps(means: F64) -> F64:
    """Step at each line of [sectors, lines, 3], beyond the shading around it; NaN where lines are missing."""
    count = means.shape[1]
    rise = np.full(means.shape, np.nan)
    for t in range(LINES, count - LINES + 1):
        rise[:, t] = means[:, t : t + LINES].mean(1) - means[:, t - LINES : t].mean(1)
    steps = np.full(means.shape, np.nan)
    at = slice(2 * LINES, count - 2 * LINES + 1)
    before, after = rise[:, LINES : count - 3 * LINES + 1], rise[:, 3 * LINES : count - LINES + 1]
    steps[:, at] = rise[:, at] - (before + after) / 2
    return steps


def _mean(total: F64, count: F64) -> F64:
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def _quantile(counts: F64, share: float) -> float:
    """Of a histogram of `PER_LEVEL` bins per grey level: the upper end of the bin that holds it."""
    total = np.cumsum(counts)
    return float(np.searchsorted(total, share * total[-1]) + 1) / PER_LEVEL


def _ratio(ours: float, real: float) -> float:
    return (ours + SMALLEST) / (real + SMALLEST)


def _check(composite: U8, source: U8, mask: F32) -> None:
    size = mask.shape[0]
    if composite.shape != (size, size, 3) or source.shape != composite.shape or mask.shape != (size, size):
        raise ValueError(
            f"crops must be [S, S, 3] and the mask [S, S], got {list(composite.shape)},"
            f" {list(source.shape)} and {list(mask.shape)}"
        )
