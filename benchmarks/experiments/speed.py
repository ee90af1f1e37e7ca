"""Held-out loss against steps and seconds of training, from the prior and from scratch.

From scratch gets eleven times the steps, with its own schedule over all of them, and ends where it reaches
the best loss that the prior reached.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from benchmarks.common import Settings
from benchmarks.experiments.plan import SCRATCH, Conditions, Experiment, Plan
from benchmarks.experiments.schema import Bar, Check, Row
from benchmarks.schema import Result

SECONDS = 4.0
MORE_STEPS = 11
LOOKS, SCRATCH_LOOKS = 12, 33
FASTER = 10.0


@dataclass(frozen=True)
class Race:
    """How long both took to one loss.

    Attributes:
        clip: which.
        loss: reached.
        steps, seconds: from the prior.
        scratch_steps, scratch_seconds: from scratch, or what it did without reaching it.
        reached: whether it did.
    """

    clip: str
    loss: float
    steps: int
    seconds: float
    scratch_steps: int
    scratch_seconds: float
    reached: bool

    @property
    def ratio(self) -> float:
        """Of steps; a lower bound unless `reached`."""
        return self.scratch_steps / self.steps

    @property
    def seconds_ratio(self) -> float:
        """Of seconds; a lower bound unless `reached`."""
        return self.scratch_seconds / self.seconds


def conditions(plan: Plan) -> Conditions:
    """Each clip from the prior, and then from scratch until it is as good."""
    for clip in plan.longest_s:
        every = max(1, plan.steps // LOOKS)
        first = plan.condition(clip, plan.few(clip, SECONDS))
        row = yield msgspec.structs.replace(first, checked_every=every)
        if row is None or len(row.curve) < 2:
            continue
        steps = plan.steps * MORE_STEPS
        yield msgspec.structs.replace(
            plan.condition(clip, plan.few(clip, SECONDS), SCRATCH),
            steps=steps,
            checked_every=max(1, steps // SCRATCH_LOOKS),
            until_loss=best(row.curve, plan.steps).loss,
        )


def races(rows: Sequence[Row]) -> list[Race]:
    """For each clip, at the losses that the prior reached after a quarter, half and all of its steps."""
    found = []
    curves = {(row.condition.clip, row.condition.start): row.curve for row in rows if row.curve}
    for (clip, start), curve in curves.items():
        other = curves.get((clip, SCRATCH))
        if start == SCRATCH or not other:
            continue
        last = curve[-1].step
        goals = [best(curve, step) for step in (last // 4, last // 2, last) if curve[1].step <= step]
        found += [_race(clip, goal, other) for goal in dict.fromkeys(goals)]
    return found


def best(curve: Sequence[Check], steps: int) -> Check:
    """The least loss of a curve's points after the first, up to so many steps."""
    return min((point for point in curve if 0 < point.step <= steps), key=lambda point: point.loss)


def _race(clip: str, goal: Check, other: Sequence[Check]) -> Race:
    theirs = next((point for point in other if point.loss <= goal.loss), None)
    end = theirs or other[-1]
    return Race(clip, goal.loss, goal.step, goal.seconds, end.step, end.seconds, theirs is not None)


def bars(rows: Sequence[Row]) -> list[Bar]:
    """The ratio at the best loss of the prior; the worst clip counts."""
    last = {race.clip: race for race in races(rows)}
    worst = min(last.values(), key=lambda race: race.ratio, default=None)
    note = "; ".join(
        f"{race.clip}: loss {race.loss:.4f} after {race.steps} steps ({race.seconds:.0f} s), from scratch "
        f"{'after' if race.reached else 'not within'} {race.scratch_steps} ({race.scratch_seconds:.0f} s)"
        for race in last.values()
    )
    return [
        Bar(
            what="steps from scratch for each step from the prior, to the same held-out loss",
            wanted=FASTER,
            at_least=True,
            measured=worst.ratio if worst else None,
            bound=worst is not None and not worst.reached,
            note=note,
        )
    ]


EXPERIMENT = Experiment(
    "speed",
    "held-out loss against steps and seconds of learning, with and without the prior",
    clips=("ed_obama",),
    steps=60,
    minutes=9,
    conditions=conditions,
    bars=bars,
)


def run(settings: Settings) -> list[Result]:
    """The experiment with its defaults; its own files go to `benchmarks/results`."""
    from benchmarks.experiments.study import run_with

    return run_with(EXPERIMENT, settings)
