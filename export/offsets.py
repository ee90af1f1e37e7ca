"""How late a clip's picture is against its sound, by the sync measure instead of by what a list says of it.

Lists give coarse estimates (a correlation of loudness with the lips, in steps of a frame), and some are of
another offset by a quarter of a second. The measure looks at every 2 s window of a clip by itself. Where the
windows agree, and the mouth fits the sound there as well as real people's do, that offset counts; where they
do not, picture and sound do not belong together (film that was cut, a voice that is not the mouth's).

The limits were set on 122 clips and on 282 pairs of a mouth with another clip's sound. With the right sound
all windows of all clips but one agree, and the confidence is 12 (median), 9 at the tenth percentile; wrong
sound has windows that agree in 17 % of pairs (a clip of 5 s is one moment, seen six times), and one in forty
reaches both that and a confidence of 8.

That 0 is in sync was checked without the measure, by 686 moments at which lips part in speech: the sound's
power grows most 20 to 30 ms later, and in GRID, whose sync is known to be right, 20 ms later.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.errors import AssetError, NoFaceError
from engine.face.model import FaceModel
from export.audio_metrics import fit_track
from export.dataset import Clip
from export.sync_net import HIT_MS, STEP_MS, SyncCurve, SyncMeasure, load_sync_measure, mouth_geometry
from export.training_set import PackedClip

REACHES = (50, 20)  # samples of 20 ms: +-1 s, or +-400 ms where the clip is short
MIN_WINDOWS = 3  # fewer cannot disagree
MIN_AGREE = 0.8
SURE, SURE_FAR = 5.0, 8.0  # confidence at an offset that a list says too, and at one that it does not
NEAR_MS = 60.0  # of what a list says
LARGEST_MS = 300.0
PEAK_STEPS = 2  # how far from the windows' median the sum of their scores may be best


@dataclass(frozen=True)
class Offset:
    """What the windows of a clip say.

    Attributes:
        late_ms: how much later the picture is than the sound.
        windows: how many of 2 s there are, every 0.2 s.
        agree: share of them whose own best offset is within 40 ms of the median.
        confidence: mean over windows of the score at the median offset above the median of all offsets.
    """

    late_ms: float
    windows: int
    agree: float
    confidence: float


def measure_offset(packed: PackedClip, model: FaceModel, measure: SyncMeasure) -> Offset | None:
    """The offset of a clip, whatever is said of it; None without sound, or without 2 s of a face."""
    mels = packed.log_mels()
    if mels is None:
        return None
    try:
        expression, time_s = fit_track(packed.all_landmarks(), packed.time_s, model, packed.neutral)
    except NoFaceError:
        return None
    mouth = mouth_geometry(expression, model)
    for reach in REACHES:
        curves = measure.curves(mels, mouth, time_s, reach=reach)
        if curves:
            return _of_windows(curves)
    return None


def _of_windows(curves: Sequence[SyncCurve]) -> Offset:
    own_ms = np.array([curve.best_ms for curve in curves])
    median_ms = float(np.median(own_ms))
    known = [value for curve in curves if np.isfinite(value := curve.confidence(median_ms))]
    return Offset(
        late_ms=_peak_ms(curves, median_ms),
        windows=len(curves),
        agree=float(np.mean(np.abs(own_ms - median_ms) <= HIT_MS)),
        confidence=float(np.mean(known)) if known else 0.0,
    )


def _peak_ms(curves: Sequence[SyncCurve], near_ms: float) -> float:
    """Where the sum of all scores is best, near an offset; between samples by a parabola."""
    at, total = curves[0].offset_ms, np.sum([curve.score for curve in curves], axis=0)
    middle = int(np.abs(at - near_ms).argmin())
    first = max(0, middle - PEAK_STEPS)
    best = first + int(total[first : middle + PEAK_STEPS + 1].argmax())
    around = total[max(0, best - 1) : best + 2]
    if len(around) < 3 or not np.isfinite(around).all():
        return near_ms
    before, peak, after = (float(value) for value in around)
    bend = before - 2 * peak + after
    return float(at[best]) + (0.5 * (before - after) / bend * STEP_MS if bend < 0 else 0.0)


def judged(clip: Clip, offset: Offset | None) -> Clip:
    """What is known of a clip, after its offset was looked at.

    Of fewer than three windows nothing follows. Windows that agree correct the offset: far from what a list
    says, or where the list does not trust the sound, only if they are surer. Else the sound does not fit.
    """
    if offset is None or offset.windows < MIN_WINDOWS:
        return clip.as_told()
    near = clip.told_to_speak and abs(offset.late_ms - 1000 * clip.told_late_s) <= NEAR_MS
    fits = (
        offset.agree >= MIN_AGREE
        and offset.confidence >= (SURE if near else SURE_FAR)
        and abs(offset.late_ms) <= LARGEST_MS
    )
    return replace(clip, fits=fits, measured_lag_ms=round(offset.late_ms, 1) if fits else None)


def with_offset(packed: PackedClip, model: FaceModel) -> PackedClip:
    """The clip with its offset measured; as it is, if the sync measure is not here or it has no sound."""
    if not packed.clip.has_audio:
        return packed
    try:
        measure = load_sync_measure()
    except AssetError:
        return packed
    return replace(packed, clip=judged(packed.clip, measure_offset(packed, model, measure)))
