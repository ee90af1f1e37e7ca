"""`livedub bench`: the suites of the source checkout behind the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.common import OnProgress, Settings
from benchmarks.comparison import compare
from benchmarks.page import page
from benchmarks.runner import SUITES, merged, report_of, table
from benchmarks.schema import Report, decode_report, encode_report
from benchmarks.tables import left_out_text
from clients.console import STDOUT, Console, write_report
from engine.errors import InputError


@dataclass(frozen=True)
class BenchOptions:
    """What is asked for.

    Attributes:
        suite: only this one; None: all that are not studies.
        backend: only this one.
        seconds: of a stream in real time; None: as the suites have it.
        reports: measured before; they are shown and nothing is measured.
        json: where the report goes.
        html: where the page goes.
        anyway: show numbers that the machine's load makes meaningless.
    """

    suite: str | None = None
    backend: str | None = None
    seconds: float | None = None
    reports: Sequence[Path] = ()
    json: Path | None = None
    html: Path | None = None
    anyway: bool = False

    @property
    def command(self) -> str:
        """As it can be typed again."""
        named = (("--suite", self.suite), ("--backend", self.backend), ("--seconds", self.seconds))
        return " ".join(["livedub bench", *(f"{name} {value}" for name, value in named if value is not None)])


def run_bench(console: Console, options: BenchOptions) -> None:
    """Run suites one after the other, show each one's table, and write them as one report.

    Raises:
        InputError: a suite does not know the backend, or a file is no report.
        LivedubError: something that a suite needs is missing.
    """
    reports = [read_report(path) for path in options.reports]
    if reports and options.json != STDOUT:
        for report in reports:
            console.result(table(report, anyway=options.anyway))
    if not reports:
        reports = _measured(console, options)
    try:
        report = merged(reports)
    except ValueError as error:
        raise InputError(str(error)) from error
    if options.json:
        write_report(options.json, encode_report(report))
    if options.html:
        write_report(options.html, page(report, anyway=options.anyway).encode())


def compare_reports(console: Console, before: Path, after: Path, *, anyway: bool) -> None:
    """Say what became faster or slower from one report to the other.

    Raises:
        InputError: a file is no report, or they are of different machines.
    """
    try:
        console.result(compare(read_report(before), read_report(after), anyway=anyway))
    except ValueError as error:
        raise InputError(str(error)) from error


def read_report(path: Path) -> Report:
    """A report from its file.

    Raises:
        InputError: it cannot be read, or is none.
    """
    try:
        return decode_report(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _measured(console: Console, options: BenchOptions) -> list[Report]:
    suites = [options.suite] if options.suite else [name for name, suite in SUITES.items() if not suite.study]
    reports: list[Report] = []
    for suite in suites:
        console.say(f"measuring: {suite}")
        with console.progress() as on_progress:
            reports.append(_report(suite, options, on_progress))
        if options.json != STDOUT:
            alone = Report(reports[-1].metadata, reports[-1].results)
            console.result(table(alone, anyway=options.anyway) + "\n")
    skipped = left_out_text(merged(reports))
    if skipped and options.json != STDOUT:
        console.result(skipped)
    return reports


def _report(suite: str, options: BenchOptions, on_progress: OnProgress) -> Report:
    settings = Settings(
        backend=options.backend,
        seconds=Settings.seconds if options.seconds is None else options.seconds,
        on_progress=on_progress,
    )
    try:
        return report_of(suite, settings, datetime.now(UTC), options.command)
    except ValueError as error:
        raise InputError(str(error)) from error
