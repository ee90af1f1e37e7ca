"""`livedub bench`: the suites of the source checkout behind the command line."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.common import Settings
from benchmarks.runner import SUITES, report_of, table
from benchmarks.schema import Report, encode_report
from clients.console import STDOUT, Console, write_report
from engine.errors import InputError


def run_bench(console: Console, suites: Sequence[str], backend: str | None, json: Path | None) -> None:
    """Run suites one after the other, show each one's table, and write them as one report.

    Of several, those that take long are left out: they run when they are the only one asked for.

    Raises:
        InputError: a suite does not know the backend.
        LivedubError: something that a suite needs is missing.
    """
    reports: list[Report] = []
    for suite in suites if len(suites) == 1 else [name for name in suites if not SUITES[name].study]:
        console.say(f"measuring: {suite}")
        try:
            reports.append(report_of(suite, Settings(backend=backend), datetime.now(UTC)))
        except ValueError as error:
            raise InputError(str(error)) from error
        if json != STDOUT:
            console.result(table(reports[-1]))
    if json:
        results = [result for report in reports for result in report.results]
        write_report(json, encode_report(Report(reports[0].metadata, results)))
