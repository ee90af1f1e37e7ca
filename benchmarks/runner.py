"""Finds suites by name and runs them.

A suite is a module with `run(settings: Settings) -> list[Result]`; it becomes known by its line in `SUITES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from benchmarks.common import Settings
from benchmarks.machine import describe_machine
from benchmarks.schema import Report, Result, to_dict


@dataclass(frozen=True)
class Suite:
    """Where a suite is and what it measures; a study takes long, and runs only by its name."""

    module: str
    what: str
    study: bool = False


SUITES = {
    "backends": Suite("benchmarks.bench_backends", "the renderer's network on each inference library"),
    "tracker": Suite("benchmarks.bench_tracker", "the face tracker, frame by frame, at 720p"),
    "dub": Suite("benchmarks.bench_dub", "the dub of one frame at 720p, stage by stage"),
    "precision": Suite("benchmarks.bench_precision", "f32, bf16 and int8: time and loss (study)", study=True),
    "lips": Suite("benchmarks.bench_lips", "lips from sound, on unseen people (study)", study=True),
    "live": Suite("benchmarks.live.run", "a live session from camera to browser (study)", study=True),
    "data": Suite("benchmarks.experiments.data", "quality against seconds of data (study)", study=True),
    "speed": Suite("benchmarks.experiments.speed", "loss against steps of learning (study)", study=True),
    "parts": Suite("benchmarks.experiments.parts", "quality without each part (study)", study=True),
    "scale": Suite("benchmarks.experiments.scale", "quality against people in the prior (study)", study=True),
}


def run_suite(name: str, backend: str | None = None) -> dict[str, Any]:
    """Run one suite as it is meant to be run.

    Args:
        name: a key of `SUITES`.
        backend: only this inference backend; `None` for all that are available.

    Returns:
        The report, as in its JSON (`benchmarks.schema`).

    Raises:
        ValueError: an unknown suite or backend.
        LivedubError: something that the suite needs is missing.
    """
    return to_dict(report_of(name, Settings(backend=backend), datetime.now(UTC)))


def report_of(name: str, settings: Settings, now: datetime) -> Report:
    """Run one suite with the given settings; see `run_suite`."""
    suite = SUITES.get(name)
    if suite is None:
        raise ValueError(f"unknown suite '{name}'; known: {', '.join(SUITES)}")
    run: Callable[[Settings], list[Result]] = import_module(suite.module).run
    described = describe_machine(now)
    return Report(described, run(settings))


def table(report: Report) -> str:
    """The results for reading, one line each, and a warning if the machine was busy."""
    width = max(len(result.name) for result in report.results)
    lines = [
        f"{'':{width}} {'clock':11} {'unit':6}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}{'iqr':>9}{'n':>6}"
    ]
    for r in report.results:
        values = "".join(f"{value:9.2f}" for value in (r.p50, r.p95, r.p99, r.max, r.iqr))
        late = "" if r.missed is None else f"  {100 * r.missed:.1f} % over {r.deadline_ms:g} ms"
        lines.append(f"{r.name:{width}} {r.clock:11} {r.unit:6}{values}{r.n:6d}{late}")
    if not report.metadata.quiet:
        load = report.metadata.load_average[0]
        lines.append(f"The machine was busy (load {load:.1f}): compare process_cpu, not wall.")
    return "\n".join(lines)


def compare(before: Report, after: Report) -> str:
    """Medians of the results that both reports have; a change less than either spread is called noise."""
    old = {(r.suite, r.name, r.clock): r for r in before.results}
    lines = []
    for new in after.results:
        was = old.get((new.suite, new.name, new.clock))
        if was is not None:
            lines.append(
                f"{new.name} {new.clock}: {was.p50:.2f} -> {new.p50:.2f} {new.unit}, {_verdict(was, new)}"
            )
    return "\n".join(lines) or "The reports have no result in common."


def _verdict(was: Result, new: Result) -> str:
    if abs(new.p50 - was.p50) <= max(was.iqr, new.iqr):
        return "within noise"
    return f"{100 * (new.p50 / was.p50 - 1):+.1f} %" if was.p50 > 0 else "new"
