"""How every suite measures, and what it is given."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.schema import Clock, Result

_NS_PER_MS = 1e6


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
    """

    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    warmup: int


@dataclass(frozen=True)
class Settings:
    """What a suite is run with.

    Attributes:
        backend: only this one, or all that are available.
        runs: kept samples per measurement.
        warmup: samples before them.
        quick: only prove that the suite works; numbers mean nothing.
    """

    backend: str | None = None
    runs: int = 100
    warmup: int = 10
    quick: bool = False


def measure(fn: Callable[[], object], warmup: int, runs: int, clocks: Clocks = Clocks()) -> Timing:
    """Time each of `runs` calls, after `warmup` that are not kept. The garbage collector rests meanwhile.

    Raises:
        ValueError: fewer than one run or a negative warm-up.
    """
    if runs < 1 or warmup < 0:
        raise ValueError(f"{runs = } must be at least 1 and {warmup = } at least 0")
    for _ in range(warmup):
        fn()
    wall, cpu = [], []
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(runs):
            cpu_start, wall_start = clocks.cpu_ns(), clocks.wall_ns()
            fn()
            wall.append((clocks.wall_ns() - wall_start) / _NS_PER_MS)
            cpu.append((clocks.cpu_ns() - cpu_start) / _NS_PER_MS)
    finally:
        if collecting:
            gc.enable()
    return Timing(tuple(wall), tuple(cpu), warmup)


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
) -> Result:
    """Spread of any samples, in `unit`; also for suites that measure something other than calls.

    Raises:
        ValueError: no samples, or one that is negative or not finite.
    """
    values = np.asarray(samples, np.float64)
    if values.size == 0 or not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"'{name}' needs samples that are finite and not negative")
    p25, p50, p75, p95, p99 = (float(p) for p in np.percentile(values, (25, 50, 75, 95, 99)))
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
    )


def results_of(
    suite: str,
    name: str,
    timing: Timing,
    *,
    deadline_ms: float | None = None,
    parameters: dict[str, str | int | float] | None = None,
) -> list[Result]:
    """The two results of a `Timing`: wall (with the deadline, if there is one) and process CPU."""
    shared = partial(summarise, suite, name, warmup=timing.warmup, parameters=parameters)
    return [
        shared(timing.wall_ms, clock="wall", deadline_ms=deadline_ms),
        shared(timing.cpu_ms, clock="process_cpu"),
    ]
