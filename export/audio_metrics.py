"""How well lips move to speech: against a real mouth, against known sounds, and in silence.

Everything is measured at 100 Hz, linear between frames, in the canonical frame of the face model (about cm),
where head pose and the person's own neutral are gone. NaN where no face is known. A mouth that is off by a
constant (another neutral) has the same scores, but for `lve_mm`, which says so by its difference to
`lve_centred_mm`. What cannot be measured is `None`.

Closures. A mouth is closed where its opening is at most 0.15 of the range, or 1.5 mm if that is more, above
its own rest. Rest is its 1st percentile, but not more than 1 mm above the neutral's: a mouth that never
closes is not at rest where it is narrowest. The range is from the 1st to the 95th percentile: of the real
mouth where there is one, else its own. A closure is a run of closed moments. On real footage (1600 moments
in some 70 clips at which lips were narrowest) these fall into two groups, which part there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from engine.arrays import F32, F64, Bool
from engine.errors import NoFaceError
from engine.face.fit import Fitter
from engine.face.model import LIPS, FaceModel, aperture
from engine.timing import MEL_RATE_HZ
from export import sync
from export.phones import Phone
from export.training_set import PackedClip

MM_PER_UNIT = 10.0
LOW, HIGH = 1.0, 95.0  # percentiles of an opening: rest, and wide open
HIGHEST_REST_CM = 0.1
CLOSED_CM = 0.15  # that much is closed for any mouth
CLOSED_SHARE = 0.15  # of the range
SMALLEST_RANGE_CM = 0.05  # a mouth that moves less is not judged
SPEED_SPAN_S = 0.08  # speeds are over two frames at 25 Hz, so that a tracker's noise weighs less
BEFORE_S, AFTER_S = 0.04, 0.02  # lips meet up to so long before a sound begins, and part after its end
NEAR_S = 0.06  # a closure belongs to a sound that is so near
SILENT_NEPERS = 5.0  # below the loud parts (95th percentile) of its loudest band: 22 dB
FLOOR_NEPERS = -11.0  # whatever the rest, this is silence
MIN_SILENCE_S, GUARD_S = 0.3, 0.12  # lips move before and after speech

Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class LipMotion:
    """A mouth over time, at 100 Hz from media time 0.

    Attributes:
        opening: float64 [N], how far the inner lips are apart, about cm; NaN where unknown.
        lips: float64 [N, 40, 3], the lips' points from where they rest, about cm; NaN where unknown.
    """

    opening: F64
    lips: F64

    def __len__(self) -> int:
        return len(self.opening)


def motion_of(expression: F32, time_s: F64, model: FaceModel, *, count: int | None = None) -> LipMotion:
    """The motion of expressions.

    Args:
        expression: float32 [F, E].
        time_s: float64 [F], ascending media times.
        model: the face model.
        count: samples wanted; None: up to the last time.
    """
    count = int(time_s[-1] * MEL_RATE_HZ) + 1 if count is None else count
    columns = [sync.resample(column.astype(np.float64), time_s, count) for column in expression.T]
    smooth = np.stack(columns, 1)
    lips = np.einsum("ne,epd->npd", smooth, model.basis[:, list(LIPS)].astype(np.float64))
    return LipMotion(np.asarray(smooth @ aperture(model.basis), np.float64), np.asarray(lips, np.float64))


def fit_track(landmarks: F32, time_s: F64, model: FaceModel, neutral: F32) -> tuple[F32, F64]:
    """A track's expressions float32 [F, E] where it shows a face, and their times [F].

    Args:
        landmarks: float32 [G, 468 or more, 3] px; NaN where no face.
        time_s: float64 [G], ascending media times.
        model: the face model.
        neutral: float32 [468, 3], the person's own.

    Raises:
        NoFaceError: fewer than two frames show a face.
    """
    seen = np.isfinite(landmarks).all(axis=(1, 2))
    if seen.sum() < 2:
        raise NoFaceError("the lips' motion needs two frames with a face")
    fitter = Fitter(model, neutral)
    return np.stack([fitter.fit(frame).expression for frame in landmarks[seen]]), time_s[seen]


def fitted(packed: PackedClip, model: FaceModel) -> tuple[F32, F64]:
    """As `fit_track`, of a packed clip; the times are those of its sound.

    Raises:
        NoFaceError: fewer than two frames show a face.
    """
    return fit_track(packed.all_landmarks(), packed.time_s - packed.clip.late_s, model, packed.neutral)


class LipScore(msgspec.Struct, frozen=True, kw_only=True):
    """One mouth against the real one.

    Attributes:
        seconds: both are known.
        correlation: Pearson's r of the two openings, moment by moment.
        lag_ms: shift at which they agree best, positive = late; None when r stays below 0.3 there, or the
            best is at +-240 ms.
        correlation_at_lag: r at that shift.
        range_ratio: 1st to 95th percentile of the opening, over the real one's; < 1 mumbles.
        speed_ratio: mean speed of the opening, over the real one's; < 1 mumbles or smears.
        lve_mm: the lips' worst point of each moment, mean over moments (MeshTalk, Richard 2021, §4.2).
        lve_centred_mm: the same after the mean difference of each point is taken away.
        closures: of the real mouth, in speech. recall: share of them in which this mouth is closed too,
            within 40 ms before to 20 ms after. precision: share of this mouth's own closures in speech whose
            tightest moment is within 60 ms of a real one.
        silence_s: of both known, in silence.
        silence_speed_mm_s: mean speed of the lips' points in silence.
        silence_speed_real_mm_s: that of the real ones.
    """

    seconds: float
    correlation: float | None
    lag_ms: float | None
    correlation_at_lag: float | None
    range_ratio: float | None
    speed_ratio: float | None
    lve_mm: float | None
    lve_centred_mm: float | None
    closures: int
    recall: float | None
    precision: float | None
    silence_s: float
    silence_speed_mm_s: float | None
    silence_speed_real_mm_s: float | None


def compare(said: LipMotion, real: LipMotion, silent: Spans = ()) -> LipScore:
    """Score a mouth against the real one.

    Args:
        said: the mouth to judge.
        real: what it should be.
        silent: where nobody speaks, media times; see `silences`.
    """
    count = min(len(said), len(real))
    ours, true = cut(said, count), cut(real, count)
    both = np.isfinite(ours.opening) & np.isfinite(true.opening)
    r, lag_ms = sync.best_lag(ours.opening, true.opening)
    believed = r is not None and r >= sync.MIN_CORRELATION
    true_range, quiet = opening_range(true.opening[both]), inside(silent, count)
    closures = closure_score(ours.opening, true.opening, both & ~quiet)
    return LipScore(
        seconds=float(both.sum()) / MEL_RATE_HZ,
        correlation=sync.correlation(ours.opening, true.opening),
        lag_ms=lag_ms if believed else None,
        correlation_at_lag=r,
        range_ratio=_ratio(opening_range(ours.opening[both]), true_range, SMALLEST_RANGE_CM),
        speed_ratio=_speed_ratio(ours.opening, true.opening, both & ~quiet),
        lve_mm=lip_vertex_error_mm(ours.lips, true.lips, centred=False),
        lve_centred_mm=lip_vertex_error_mm(ours.lips, true.lips, centred=True),
        closures=closures.wanted,
        recall=closures.recall,
        precision=closures.precision,
        silence_s=float((both & quiet).sum()) / MEL_RATE_HZ,
        silence_speed_mm_s=lip_speed_mm_s(ours.lips, both & quiet),
        silence_speed_real_mm_s=lip_speed_mm_s(true.lips, both & quiet),
    )


@dataclass(frozen=True)
class ClosureScore:
    """Closures that were asked for, and those that were made.

    Attributes:
        wanted: how many should be.
        kept: how many of these are.
        made: closures in speech that can be judged.
        right: how many of these are where one should be.
    """

    wanted: int
    kept: int
    made: int
    right: int

    @property
    def recall(self) -> float | None:
        """Share of the wanted closures that are made."""
        return self.kept / self.wanted if self.wanted else None

    @property
    def precision(self) -> float | None:
        """Share of the closures made that were wanted."""
        return self.right / self.made if self.made else None

    def __add__(self, other: "ClosureScore") -> "ClosureScore":
        return ClosureScore(
            self.wanted + other.wanted,
            self.kept + other.kept,
            self.made + other.made,
            self.right + other.right,
        )


def closure_score(said: F64, real: F64, judged: Bool) -> ClosureScore:
    """Closures of an opening [N] against those of the real one [N], where `judged` [N]."""
    width = opening_range(real[judged])
    if width < SMALLEST_RANGE_CM:
        return ClosureScore(0, 0, 0, 0)
    wanted = runs(closed(real, width) & judged)
    ours = closed(said, width)
    return _counted(wanted, ours, _tightest(said, ours & judged))


def phone_closures(said: F64, phones: Sequence[Phone]) -> ClosureScore:
    """Closures of an opening [N] against the sounds p, b, m (and their kin) of what is said.

    Precision is over the mouth's closures between pauses. A closure on f, v, w and their kin, where lips come
    close or meet, or at the edge of a pause, counts neither way, unless a p, b or m is near.
    """
    count, width = len(said), opening_range(said)
    wanted = [_samples(phone.start_s, phone.end_s) for phone in phones if phone.closes]
    wanted = [(first, last) for first, last in wanted if last <= count]
    spoken = [phone for phone in phones if not phone.silent]
    if width < SMALLEST_RANGE_CM or not spoken:
        return ClosureScore(len(wanted), 0, 0, 0)
    pauses = [(p.start_s - NEAR_S, p.end_s + NEAR_S) for p in phones if p.silent]
    pauses += [(-1.0, spoken[0].start_s + NEAR_S), (spoken[-1].end_s - NEAR_S, count / MEL_RATE_HZ + 1)]
    in_doubt = inside([*pauses, *((p.start_s, p.end_s) for p in phones if p.narrows)], count)
    ours = closed(said, width)
    made = [at for at in _tightest(said, ours) if not in_doubt[at] or _near(at, wanted)]
    return _counted(wanted, ours, made)


def _counted(wanted: Sequence[tuple[int, int]], ours: Bool, made: Sequence[int]) -> ClosureScore:
    before, after = round(BEFORE_S * MEL_RATE_HZ), round(AFTER_S * MEL_RATE_HZ)
    kept = sum(bool(ours[max(0, first - before) : last + after].any()) for first, last in wanted)
    return ClosureScore(len(wanted), kept, len(made), sum(_near(at, wanted) for at in made))


def _tightest(said: F64, ours: Bool) -> list[int]:
    """The moment of each closure at which the lips are closest."""
    return [first + int(said[first:last].argmin()) for first, last in runs(ours)]


def _near(at: int, wanted: Sequence[tuple[int, int]]) -> bool:
    near = round(NEAR_S * MEL_RATE_HZ)
    return any(first - near <= at < last + near for first, last in wanted)


def lip_vertex_error_mm(said: F64, real: F64, *, centred: bool) -> float | None:
    """Mean over moments of the largest distance of any lip point, mm; points [N, 40, 3], NaN left out."""
    error = said - real
    known = np.isfinite(error).all(axis=(1, 2))
    if not known.any():
        return None
    error = error[known] - (error[known].mean(0) if centred else 0.0)
    return float(np.linalg.norm(error, axis=2).max(1).mean()) * MM_PER_UNIT


def lip_speed_mm_s(lips: F64, where: Bool) -> float | None:
    """Mean speed of lip points [N, 40, 3], mm/s, over 80 ms around each moment `where` [N]; None if none."""
    span = round(SPEED_SPAN_S * MEL_RATE_HZ)
    if len(lips) <= span:
        return None
    speed = np.linalg.norm(lips[span:] - lips[:-span], axis=2).mean(1) / SPEED_SPAN_S
    chosen = speed[where[span // 2 : span // 2 + len(speed)]]
    chosen = chosen[np.isfinite(chosen)]
    return float(chosen.mean()) * MM_PER_UNIT if len(chosen) else None


def opening_range(opening: F64) -> float:
    """From rest to wide open: the 1st to the 95th percentile of what is known; 0 if nothing is."""
    known = opening[np.isfinite(opening)]
    return float(np.subtract(*np.percentile(known, (HIGH, LOW)))) if len(known) else 0.0


def closed(opening: F64, range_cm: float) -> Bool:
    """Bool [N], where lips with such a range of opening are closed; see the module."""
    known = opening[np.isfinite(opening)]
    reach = max(CLOSED_SHARE * range_cm, CLOSED_CM)
    rest = min(float(np.percentile(known, LOW)), HIGHEST_REST_CM) if len(known) else 0.0
    return np.asarray(np.nan_to_num(opening, nan=np.inf) <= rest + reach, np.bool_)


def silences(mels: F32) -> list[tuple[float, float]]:
    """Where nobody speaks: media times.

    At least 0.3 s whose loudest band is 5 nepers below the loud parts; 0.12 s at either side is left out,
    because lips move before the first sound and after the last.

    Args:
        mels: float32 [M, 80], log-mels at 100 Hz.
    """
    loudest = mels.max(1)
    quiet = loudest < max(float(np.percentile(loudest, HIGH)) - SILENT_NEPERS, FLOOR_NEPERS)
    least, guard = round(MIN_SILENCE_S * MEL_RATE_HZ), round(GUARD_S * MEL_RATE_HZ)
    found = [run for run in runs(quiet) if run[1] - run[0] >= least]
    return [((first + guard) / MEL_RATE_HZ, (last - guard) / MEL_RATE_HZ) for first, last in found]


def runs(flags: Bool) -> list[tuple[int, int]]:
    """First and one past the last index of every run of True in [N]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def inside(spans: Spans, count: int) -> Bool:
    """Bool [count] at 100 Hz: whether a moment is in one of the spans."""
    flags = np.zeros(count, np.bool_)
    for start_s, end_s in spans:
        first, last = _samples(start_s, end_s)
        flags[max(0, first) : max(0, last)] = True
    return flags


def cut(motion: LipMotion, count: int) -> LipMotion:
    """The first moments of a motion."""
    return LipMotion(motion.opening[:count], motion.lips[:count])


def _samples(start_s: float, end_s: float) -> tuple[int, int]:
    return round(start_s * MEL_RATE_HZ), round(end_s * MEL_RATE_HZ)


def _ratio(ours: float, real: float, least: float) -> float | None:
    return ours / real if real >= least else None


def _speed_ratio(said: F64, real: F64, where: Bool) -> float | None:
    span = round(SPEED_SPAN_S * MEL_RATE_HZ)
    both = where[span:] & where[:-span]
    if not both.any():
        return None
    ours, true = (float(np.abs(one[span:] - one[:-span])[both].mean()) for one in (said, real))
    return _ratio(ours, true, SMALLEST_RANGE_CM * SPEED_SPAN_S)
