"""What each part of the method is worth: everything, then everything but one."""

from collections.abc import Sequence

from benchmarks.common import Settings
from benchmarks.experiments.plan import PHOTO_STEPS, PRIOR, SCRATCH, Conditions, Experiment, Plan
from benchmarks.experiments.schema import Bar, Row
from benchmarks.schema import Result

SECONDS = 4.0
PARTS = ("personal texture", "network stage", "texture stage", "mixed training")


def conditions(plan: Plan) -> Conditions:
    """Clip by clip; the ways of compositing are scored with every one of them."""
    for clip in plan.longest_s:
        seconds = plan.few(clip, SECONDS)
        yield plan.condition(clip, seconds, PRIOR)
        for part in PARTS:
            yield plan.condition(clip, seconds, f"without {part}", without=(part,))
        yield plan.condition(clip, seconds, SCRATCH)


def bars(rows: Sequence[Row]) -> list[Bar]:
    """None are promised."""
    return []


EXPERIMENT = Experiment(
    "parts",
    "quality without each part of the method",
    clips=("ed_obama",),
    steps=PHOTO_STEPS,
    minutes=6,
    conditions=conditions,
    bars=bars,
)


def run(settings: Settings) -> list[Result]:
    """The experiment with its defaults; its own files go to `benchmarks/results`."""
    from benchmarks.experiments.study import run_with

    return run_with(EXPERIMENT, settings)
