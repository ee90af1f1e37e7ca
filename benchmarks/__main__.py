"""`python -m benchmarks SUITE`: measure, print a table, and keep the report as JSON if asked.

`livedub bench` does more; this one knows how many samples to take, for whoever works on the suites.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.common import Settings
from benchmarks.comparison import compare
from benchmarks.runner import SUITES, report_of, table
from benchmarks.schema import decode_report, encode_report
from engine.errors import LivedubError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 2 for wrong use, 1 if something is missing."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except (ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except LivedubError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.list:
        print("\n".join(f"{name:12} {suite.what}" for name, suite in SUITES.items()))
    elif options.compare:
        before, after = (decode_report(path.read_bytes()) for path in options.compare)
        print(compare(before, after, anyway=options.anyway))
    elif options.suite is None:
        raise ValueError("name a suite, or see --list")
    else:
        _run_suite(options)
    return 0


def _run_suite(options: argparse.Namespace) -> None:
    settings = Settings(options.backend, options.runs, options.warmup, seconds=options.seconds)
    if options.quick:
        settings = Settings(options.backend, runs=3, warmup=1, quick=True)
    report = report_of(options.suite, settings, datetime.now(UTC), command=f"benchmarks {options.suite}")
    data = encode_report(report)
    print(table(report, anyway=options.anyway))
    if options.json:
        options.json.write_bytes(data)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("benchmarks", description="Latency and throughput of livedub's parts.")
    parser.add_argument("suite", nargs="?", help="what to measure")
    parser.add_argument("--list", action="store_true", help="name the suites")
    parser.add_argument("--backend", help="only this inference backend")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the report here")
    parser.add_argument("--runs", type=int, default=Settings.runs, help="kept samples (%(default)s)")
    parser.add_argument("--warmup", type=int, default=Settings.warmup, help="samples before (%(default)s)")
    parser.add_argument("--seconds", type=float, default=Settings.seconds, help="of a stream (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="only prove that the suite works")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="two reports")
    parser.add_argument("--anyway", action="store_true", help="show what a busy machine makes meaningless")
    return parser


if __name__ == "__main__":
    sys.exit(main())
