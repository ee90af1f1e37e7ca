"""Finds suites by name and runs them.

A suite is a module with `run(settings: Settings) -> list[Result]`; it becomes known by its line in `SUITES`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import msgspec

from benchmarks.common import Settings
from benchmarks.machine import describe_machine, finished
from benchmarks.painters import backend_rows
from benchmarks.schema import Metadata, Report, Result, to_dict
from benchmarks.tables import table
from engine.errors import BackendUnavailable

__all__ = ["SUITES", "Suite", "merged", "report_of", "run_suite", "table"]


@dataclass(frozen=True)
class Suite:
    """Where a suite is and what it measures; a study is long or in others, and runs only by its name."""

    module: str
    what: str
    study: bool = False


SUITES = {
    "stages": Suite("benchmarks.bench_stages", "every step of a frame and of 40 ms of sound"),
    "render": Suite("benchmarks.bench_render", "drawing and compositing a face, by backend and precision"),
    "audio": Suite("benchmarks.bench_audio", "lips from sound, by backend and number of streams"),
    "pipeline": Suite("benchmarks.bench_pipeline", "one stream of 25 frames a second, in real time"),
    "capacity": Suite(
        "benchmarks.bench_capacity", "how many streams this machine holds at 25 frames a second"
    ),
    "startup": Suite("benchmarks.bench_startup", "from nothing to the first frame"),
    "tracker": Suite("benchmarks.bench_tracker", "the face tracker, frame by frame, at 720p"),
    "dub": Suite(
        "benchmarks.bench_dub", "the dub of one frame at 720p, stage by stage (in `stages`)", study=True
    ),
    "backends": Suite(
        "benchmarks.bench_backends", "the renderer's network by size and threads (study)", study=True
    ),
    "precision": Suite("benchmarks.bench_precision", "f32, bf16 and int8: time and loss (study)", study=True),
    "lips": Suite("benchmarks.bench_lips", "lips from sound, on unseen people (study)", study=True),
    "live": Suite("benchmarks.live.run", "a live session from camera to browser (study)", study=True),
    "endurance": Suite(
        "benchmarks.live.endurance", "a server with killed, silent and hostile clients (study)", study=True
    ),
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


def report_of(name: str, settings: Settings, now: datetime, command: str = "") -> Report:
    """Run one suite with the given settings; see `run_suite`."""
    suite = SUITES.get(name)
    if suite is None:
        raise ValueError(f"unknown suite '{name}'; known: {', '.join(SUITES)}")
    run: Callable[[Settings], list[Result]] = import_module(suite.module).run
    described = describe_machine(now, seed=settings.seed, command=command, backends=backend_rows())
    already = len(settings.skipped)
    results = run(settings)
    if not results:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in settings.skipped[already:])
        raise BackendUnavailable(f"nothing could be measured for {name} ({reasons or 'no reason is known'})")
    return Report(finished(described), results, settings.skipped[already:])


def merged(reports: Sequence[Report]) -> Report:
    """Several reports of one machine as one; what describes the machine is the first one's.

    Raises:
        ValueError: none, a result twice, or different machines.
    """
    if not reports:
        raise ValueError("there is no report")
    first = reports[0].metadata
    for report in reports:
        if _same(report.metadata) != _same(first):
            raise ValueError(
                f"the reports are of different machines: {_same(first)}, {_same(report.metadata)}"
            )
    described = msgspec.structs.replace(
        first,
        command="; ".join(
            dict.fromkeys(report.metadata.command for report in reports if report.metadata.command)
        ),
        load_average_after=reports[-1].metadata.load_average_after,
    )
    results = [result for report in reports for result in report.results]
    return Report(described, results, [skipped for report in reports for skipped in report.skipped])


def _same(metadata: Metadata) -> tuple[str, int, tuple[str, ...]]:
    return metadata.cpu_model, metadata.cores, tuple(device.name for device in metadata.devices)
