import gc
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.common import MOST_RUNS, MOST_SAMPLES, Clocks, Timing, measure, results_of, summarise
from benchmarks.schema import Load


class Ticking:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def test_each_call_is_timed_on_both_clocks() -> None:
    wall, cpu = Ticking(), Ticking()
    durations_ms: Iterator[int] = iter([100, 100, 1, 2, 3])

    def work() -> None:
        duration_ms = next(durations_ms)
        wall.now_ns += duration_ms * 1_000_000
        cpu.now_ns += duration_ms * 500_000

    timing = measure(work, warmup=2, runs=3, clocks=Clocks(wall, cpu))
    assert timing == Timing((1.0, 2.0, 3.0), (0.5, 1.0, 1.5), warmup=2)


def test_the_real_clocks_count_work() -> None:
    timing = measure(lambda: sum(range(20_000)), warmup=1, runs=3)
    assert len(timing.wall_ms) == len(timing.cpu_ms) == 3
    assert min(timing.wall_ms) > 0
    assert max(timing.cpu_ms) > 0


def test_the_garbage_collector_rests_and_comes_back() -> None:
    seen = []
    measure(lambda: seen.append(gc.isenabled()), warmup=1, runs=2)
    assert seen == [True, False, False]
    assert gc.isenabled()


def test_the_garbage_collector_comes_back_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError):
        measure(lambda: 1 // 0, warmup=0, runs=1)
    assert gc.isenabled()


@pytest.mark.parametrize(("warmup", "runs"), [(0, 0), (-1, 1)])
def test_no_runs_are_refused(warmup: int, runs: int) -> None:
    with pytest.raises(ValueError, match="runs"):
        measure(lambda: None, warmup, runs)


def test_percentiles_are_numpys() -> None:
    samples = np.random.default_rng(0).gamma(2.0, 5.0, 1000)
    result = summarise("s", "n", list(samples), unit="px", deadline_ms=20.0)
    p25, p50, p75, p95, p99 = np.percentile(samples, (25, 50, 75, 95, 99))
    assert (result.p50, result.p95, result.p99, result.max) == (p50, p95, p99, samples.max())
    assert (result.iqr, result.n, result.unit, result.clock) == (p75 - p25, 1000, "px", "none")
    assert result.missed == np.mean(samples > 20.0)


@pytest.mark.parametrize("samples", [[], [1.0, float("nan")], [-1.0], [float("inf")]])
def test_bad_samples_are_refused(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="'n' needs samples"):
        summarise("s", "n", samples)


def test_a_timing_gives_two_results_and_the_deadline_is_wall_time() -> None:
    timing = Timing((30.0, 50.0), (20.0, 21.0), warmup=4)
    wall, cpu = results_of("s", "n", timing, deadline_ms=40.0, parameters={"threads": 2})
    assert (wall.clock, wall.missed, wall.warmup, wall.parameters) == ("wall", 0.5, 4, {"threads": 2})
    assert (cpu.clock, cpu.missed, cpu.max, cpu.parameters) == ("process_cpu", None, 21.0, {"threads": 2})


def test_quick_calls_go_on_until_they_can_be_judged_and_few_are_kept() -> None:
    wall = Ticking()

    def work() -> None:
        wall.now_ns += 10_000

    timing = measure(work, warmup=0, runs=5, clocks=Clocks(wall, wall), at_least_s=0.1)
    assert wall.now_ns >= 100_000_000
    assert len(timing.wall_ms) == len(timing.cpu_ms) == MOST_RUNS


def test_a_busy_machines_wall_time_is_not_trusted() -> None:
    timing = Timing((30.0, 50.0), (20.0, 21.0), warmup=4, load=Load(others_cores=99.0, steal_cores=0.0))
    wall, cpu = results_of("s", "n", timing)
    assert (wall.trusted, cpu.trusted) == (False, True)
    assert wall.load == timing.load


def test_samples_keep_their_order_and_many_are_thinned() -> None:
    result = summarise("s", "n", range(10_000), at_s=range(10_000))
    assert result.n == 10_000
    assert len(result.samples) == len(result.at_s) == MOST_SAMPLES
    assert result.samples == sorted(result.samples)
    assert (result.samples[0], result.samples[-1]) == (0, 9999)
