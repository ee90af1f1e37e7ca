"""How every suite measures, and what it is given."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from benchmarks.load import SPOILED, cores_here, load_between, read_counters, why_busy
from benchmarks.schema import Better, Clock, Load, Result, Skipped
from benchmarks.spread import interval

_NS_PER_MS = 1e6
MOST_SAMPLES = 1500  # kept in a report
MOST_RUNS = 600
DIGITS = 4

OnProgress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Clocks:
    """Where time comes from; tests pass their own.

    Attributes:
        wall_ns: monotonic wall clock.
        cpu_ns: CPU time of the process, all threads together.
    """

    wall_ns: Callable[[], int] = time.perf_counter_ns
    cpu_ns: Callable[[], int] = time.process_time_ns


@dataclass(frozen=True)
class Timing:
    """Samples of one call, in ms: wall time and CPU time of the process.

    On a machine that others use too, only the CPU time says something about the code.

    Attributes:
        wall_ms: one for each call.
        cpu_ms: one for each call.
        warmup: calls before them.
        load: what else the machine did meanwhile; None if unknown.
    """

    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    warmup: int
    load: Load | None = field(default=None, compare=False)


def _nobody(stage: str, done: int, total: int | None) -> None:
    pass


@dataclass(frozen=True)
class Settings:
    """What a suite is run with.

    Attributes:
        backend: only this one, or all that are available.
        runs: kept samples per measurement, at least.
        warmup: samples before them.
        quick: only prove that the suite works; numbers mean nothing.
        seconds: of a stream, in suites that run one.
        at_least_s: how long a measurement goes on.
        seed: of everything random.
        on_progress: told how far the suite is.
        skipped: where a suite says what it could not measure.
    """

    backend: str | None = None
    runs: int = 100
    warmup: int = 10
    quick: bool = False
    seconds: float = 10.0
    at_least_s: float = 0.5
    seed: int = 0
    on_progress: OnProgress = _nobody
    skipped: list[Skipped] = field(default_factory=list)

    def measure(self, fn: Callable[[], object], *, runs: int | None = None) -> Timing:
        """Time a call as these settings say."""
        return measure(fn, self.warmup, runs or self.runs, at_least_s=0.0 if self.quick else self.at_least_s)


def measure(
    fn: Callable[[], object],
    warmup: int,
    runs: int,
    clocks: Clocks = Clocks(),
    *,
    at_least_s: float = 0.0,
) -> Timing:
    """Time each of `runs` calls, after `warmup` that are not kept. The garbage collector rests meanwhile.

    Args:
        fn: what is timed.
        warmup: calls before.
        runs: calls that count.
        clocks: where time comes from.
        at_least_s: go on until so much wall time is spent; of many calls, `MOST_RUNS` evenly taken count.

    Raises:
        ValueError: fewer than one run or a negative warm-up.
    """
    if runs < 1 or warmup < 0:
        raise ValueError(f"{runs = } must be at least 1 and {warmup = } at least 0")
    for _ in range(warmup):
        fn()
    wall: list[float] = []
    cpu: list[float] = []
    collecting = gc.isenabled()
    gc.disable()
    before = read_counters()
    first_ns = clocks.wall_ns()
    until_ns = first_ns + at_least_s * 1e9  # nothing shorter than the system's ticks can be judged
    try:
        while len(wall) < runs or clocks.wall_ns() < until_ns:
            cpu_start, wall_start = clocks.cpu_ns(), clocks.wall_ns()
            fn()
            wall.append((clocks.wall_ns() - wall_start) / _NS_PER_MS)
            cpu.append((clocks.cpu_ns() - cpu_start) / _NS_PER_MS)
    finally:
        if collecting:
            gc.enable()
    load = load_between(before, read_counters())
    kept = range(len(wall)) if len(wall) <= max(runs, MOST_RUNS) else _evenly(len(wall), max(runs, MOST_RUNS))
    return Timing(tuple(wall[i] for i in kept), tuple(cpu[i] for i in kept), warmup, load)


def _evenly(count: int, most: int) -> list[int]:
    return [int(index) for index in np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))]


def summarise(
    suite: str,
    name: str,
    samples: Sequence[float],
    *,
    unit: str = "ms",
    clock: Clock = "none",
    warmup: int = 0,
    deadline_ms: float | None = None,
    parameters: dict[str, str | int | float] | None = None,
    better: Better = "lower",
    load: Load | None = None,
    trusted: bool | None = None,
    at_s: Sequence[float] = (),
) -> Result:
    """Spread of any samples, in `unit`; also for suites that measure something other than calls.

    Args:
        suite: its name.
        name: what was measured.
        samples: in the order of measuring.
        unit: of them.
        clock: that took them.
        warmup: samples before that were not kept.
        deadline_ms: what they had to stay under.
        parameters: for tables.
        better: which direction is.
        load: what else the machine did.
        trusted: whether they mean something; None judges by `load` and `clock`.
        at_s: when each began.

    Raises:
        ValueError: no samples, or one that is negative or not finite.
    """
    values = np.asarray(samples, np.float64)
    if values.size == 0 or not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"'{name}' needs samples that are finite and not negative")
    p25, p50, p75, p95, p99 = (float(p) for p in np.percentile(values, (25, 50, 75, 95, 99)))
    kept = _evenly(values.size, MOST_SAMPLES)
    spoiled = clock in SPOILED and bool(why_busy(load, cores_here()))
    return Result(
        suite=suite,
        name=name,
        unit=unit,
        clock=clock,
        p50=p50,
        p95=p95,
        p99=p99,
        max=float(values.max()),
        iqr=p75 - p25,
        n=int(values.size),
        warmup=warmup,
        deadline_ms=deadline_ms,
        missed=None if deadline_ms is None else float(np.mean(values > deadline_ms)),
        parameters=parameters or {},
        better=better,
        trusted=not spoiled if trusted is None else trusted,
        load=load,
        p50_ci=_rounded_pair(interval(values, 50)),
        p99_ci=_rounded_pair(interval(values, 99)),
        samples=_rounded(values[kept]),
        at_s=_rounded(np.asarray(at_s, np.float64)[kept]) if len(at_s) else [],
    )


def _rounded(values: "np.typing.NDArray[np.float64]") -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]


def _rounded_pair(pair: tuple[float, float] | None) -> tuple[float, float] | None:
    return pair and (float(f"{pair[0]:.{DIGITS}g}"), float(f"{pair[1]:.{DIGITS}g}"))


def results_of(
    suite: str,
    name: str,
    timing: Timing,
    *,
    deadline_ms: float | None = None,
    parameters: dict[str, str | int | float] | None = None,
) -> list[Result]:
    """The two results of a `Timing`: wall (with the deadline, if there is one) and process CPU."""
    shared = partial(summarise, suite, name, warmup=timing.warmup, parameters=parameters, load=timing.load)
    return [
        shared(timing.wall_ms, clock="wall", deadline_ms=deadline_ms),
        shared(timing.cpu_ms, clock="process_cpu"),
    ]
