"""Benchmark reports that nobody measured."""

from typing import Any

from benchmarks.common import summarise
from benchmarks.schema import Load, Metadata, Report, Result

BUSY = Load(others_cores=1.5, steal_cores=0.0, waited_share=0.4)
QUIET = Load(others_cores=0.01, steal_cores=0.0, waited_share=0.0)


def metadata(**changes: Any) -> Metadata:
    values: dict[str, Any] = {
        "utc_time": "2026-11-22T09:00:00Z",
        "commit": "unknown",
        "dirty": False,
        "python": "3.11.7",
        "libraries": {"numpy": "2.4.6"},
        "cpu_model": "a CPU",
        "cpu_flags": ["avx2"],
        "cores": 2,
        "load_average": (0.1, 0.2, 0.3),
        "quiet": True,
        "thread_variables": {"OMP_NUM_THREADS": "1"},
    }
    return Metadata(**(values | changes))


def report(*results: Result, **changes: Any) -> Report:
    return Report(metadata(**changes), list(results) or [timed(1.0)])


def timed(*samples: float, name: str = "n", suite: str = "s", **how: Any) -> Result:
    """Wall time, of a quiet machine unless a load is given."""
    how = {"clock": "wall", "load": QUIET, **how}
    return summarise(suite, name, samples, **how)
