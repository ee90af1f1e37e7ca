"""Quality on unseen people against the number of people in the prior; none is from scratch.

Priors of fewer people come from `livedub train prior --people N -o DIR` and are given with `--priors`, or the
experiment trains them itself (`--people`). Compare those of equally many steps with each other; the shipped
one had many more.
"""

from collections.abc import Sequence

from benchmarks.common import Settings
from benchmarks.experiments.plan import COMPARED, PHOTO_STEPS, SCRATCH, Conditions, Experiment, Plan
from benchmarks.experiments.schema import Bar, Row
from benchmarks.schema import Result

SECONDS = 4.0


def conditions(plan: Plan) -> Conditions:
    """Clip by clip: the priors to compare, the shipped one, none."""
    for clip in plan.longest_s:
        seconds = plan.few(clip, SECONDS)
        for prior in plan.priors[1:]:
            yield plan.condition(clip, seconds, COMPARED, prior=prior)
        yield plan.condition(clip, seconds)
        yield plan.condition(clip, seconds, SCRATCH)


def bars(rows: Sequence[Row]) -> list[Bar]:
    """None are promised."""
    return []


EXPERIMENT = Experiment(
    "scale",
    "quality on unseen people against the number of people in the prior",
    clips=("ed_obama", "w2l_man"),
    steps=PHOTO_STEPS,
    minutes=9,
    conditions=conditions,
    bars=bars,
)


def run(settings: Settings) -> list[Result]:
    """The experiment with its defaults; its own files go to `benchmarks/results`."""
    from benchmarks.experiments.study import run_with

    return run_with(EXPERIMENT, settings)
