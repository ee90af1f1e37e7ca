"""Quality against seconds of data, from the prior and from scratch.

The longest clip that may be evaluated, `ed_lieu`, has a minute, of which the last ten seconds are held out.
It is of no dev person: its face, 145 px wide, is too small for any prior to be trained on.
"""

from collections.abc import Sequence

from benchmarks.common import Settings
from benchmarks.experiments.plan import (
    PHOTO_STEPS,
    PRIOR,
    SCRATCH,
    Conditions,
    Experiment,
    Plan,
    by_clip,
    seconds_text,
)
from benchmarks.experiments.schema import PHOTO_S, Bar, Row
from benchmarks.schema import Result

SECONDS = (PHOTO_S, 2.0, 4.0, 10.0, 30.0, 60.0)
FEW_S, MUCH_S = 4.0, 30.0
WITHIN_DB, OVER_DB = 1.5, 1.5


def conditions(plan: Plan) -> Conditions:
    """Few seconds against much on every clip first; the points between and from scratch follow."""
    for clip in plan.longest_s:
        few, much = plan.few(clip, FEW_S), _much(plan.amounts(clip))
        yield plan.condition(clip, few)
        yield plan.condition(clip, few, SCRATCH)
        yield plan.condition(clip, much)
    for variant in (PRIOR, SCRATCH):
        for clip in plan.longest_s:
            for seconds in plan.amounts(clip):
                yield plan.condition(clip, seconds, variant)


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Few seconds against much, and against as many from scratch: face crop first, then the mouth."""
    few, scratch = by_clip(rows, PRIOR, FEW_S), by_clip(rows, SCRATCH, FEW_S)
    much: dict[str, Row] = {}
    for clip, ones in by_clip(rows, PRIOR).items():
        wanted = _much([row.condition.seconds for row in ones])
        if clip in few and wanted > FEW_S:
            much[clip] = next(row for row in ones if row.condition.seconds == wanted)
    compared = ", ".join(f"{clip} {seconds_text(row.condition.seconds)}" for clip, row in much.items())
    both = [clip for clip in few if clip in scratch]
    found = []
    for metric, name in (("face_psnr_db", "face crop PSNR"), ("mouth_psnr_db", "mouth PSNR")):
        short_of = [_value(row, metric) - _value(few[clip][0], metric) for clip, row in much.items()]
        over = [_value(few[clip][0], metric) - _value(scratch[clip][0], metric) for clip in both]
        found += [
            Bar(
                what=f"{name} at 4 s below that of 30 s, or of all there is, dB",
                wanted=WITHIN_DB,
                at_least=False,
                measured=_mean(short_of),
                note=compared,
            ),
            Bar(
                what=f"{name} at 4 s above from scratch, dB",
                wanted=OVER_DB,
                at_least=True,
                measured=_mean(over),
                note=", ".join(both),
            ),
        ]
    return found


def _much(amounts: Sequence[float]) -> float:
    """30 s where there are so many, else all there is."""
    return MUCH_S if MUCH_S in amounts else max(amounts)


def _value(row: Row, metric: str) -> float:
    value = getattr(row.scores, metric)
    return float("nan") if value is None else float(value)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


EXPERIMENT = Experiment(
    "data",
    "quality on unseen footage against seconds of data, with and without the prior",
    clips=("ed_obama", "ed_lieu"),
    steps=PHOTO_STEPS,
    minutes=17,
    conditions=conditions,
    bars=bars,
)


def run(settings: Settings) -> list[Result]:
    """The experiment with its defaults; its own files go to `benchmarks/results`."""
    from benchmarks.experiments.study import run_with

    return run_with(EXPERIMENT, settings)
