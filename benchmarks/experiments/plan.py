"""What an experiment asks for, before anything is computed: needs no torch."""

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.experiments.schema import PHOTO_S, Bar, Condition, Row

PHOTO_STEPS = 80  # what `livedub adapt` learns one picture in; more is never given to one
PRIOR, COMPARED, SCRATCH = "prior", "compared prior", "scratch"
AS_SHOWN, NO_MATCH, OTHER_MOUTH = "as shown, with alpha", "without colour match", "over another frame's skin"

Conditions = Generator[Condition, Row | None, None]


@dataclass(frozen=True)
class Plan:
    """What there is to experiment with.

    Attributes:
        longest_s: seconds to learn from, by clip.
        priors: name and number of people (None: not known); the first is the shipped one.
        steps: of each adaptation.
        seed: of everything random.
        seconds: amounts of data, where the experiment varies them.
    """

    longest_s: Mapping[str, float]
    priors: Sequence[tuple[str, int | None]]
    steps: int
    seed: int
    seconds: Sequence[float]

    def condition(
        self,
        clip: str,
        seconds: float,
        variant: str = PRIOR,
        *,
        without: Sequence[str] = (),
        prior: tuple[str, int | None] | None = None,
    ) -> Condition:
        """One adaptation; "scratch" starts without the prior, everything else from it."""
        name, people = prior or self.priors[0]
        return Condition(
            clip=clip,
            seconds=float(seconds),
            variant=variant,
            start=SCRATCH if variant == SCRATCH else PRIOR,
            without=tuple(without),
            steps=min(self.steps, PHOTO_STEPS) if seconds == PHOTO_S else self.steps,
            seed=self.seed,
            prior=name,
            people=people,
        )

    def amounts(self, clip: str) -> list[float]:
        """The amounts that a clip allows, and all it has if that is clearly more."""
        longest = math.floor(self.longest_s[clip] * 10 + 1e-6) / 10
        allowed = [seconds for seconds in self.seconds if seconds <= longest]
        more = not allowed or longest > 1.2 * max(allowed)
        return [*allowed, longest] if more else allowed

    def few(self, clip: str, seconds: float) -> float:
        """So many seconds, or what there is."""
        return min(seconds, math.floor(self.longest_s[clip] * 10 + 1e-6) / 10)


@dataclass(frozen=True)
class Experiment:
    """One of the studies.

    Attributes:
        name: of the suite.
        what: it shows.
        clips: by default.
        steps: by default.
        minutes: by default.
        conditions: a generator of what to do, the most telling first; it is sent each result, or None for one
            that there was no time for.
        bars: the promises that it checks.
    """

    name: str
    what: str
    clips: Sequence[str]
    steps: int
    minutes: float
    conditions: Callable[[Plan], Conditions]
    bars: Callable[[Sequence[Row]], list[Bar]]


def seconds_text(seconds: float) -> str:
    """An amount of data in words."""
    return "1 photo" if seconds == PHOTO_S else f"{seconds:g} s"


def by_clip(rows: Iterable[Row], variant: str, seconds: float | None = None) -> dict[str, list[Row]]:
    """Scored rows of a variant, least data first."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.condition.seconds):
        one = row.condition
        if row.scores and one.variant == variant and seconds in (None, one.seconds):
            found.setdefault(one.clip, []).append(row)
    return found
