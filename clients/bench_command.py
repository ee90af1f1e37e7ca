"""The command `livedub bench`; `clients.bench` does its work."""

from pathlib import Path
from typing import Annotated

import typer

from clients.options import Json, Verbose, check_choice, check_ending, check_report, console_of
from engine.errors import LivedubError


def bench(
    ctx: typer.Context,
    suite: Annotated[str | None, typer.Option(help="Which suite; else all that are no studies.")] = None,
    backend: Annotated[str | None, typer.Option(help="Only this backend.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.2, help="How long a stream runs in real time, in pipeline and capacity."),
    ] = None,
    json: Json = None,
    html: Annotated[
        Path | None, typer.Option(metavar="OUT.html", help="Write a page with plots, in one file.")
    ] = None,
    reports: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="A.json", help="Show what was measured before; may be repeated."),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.json B.json", help="Say what became faster or slower from A to B."),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Show, with a mark, what a busy machine makes meaningless.")
    ] = False,
    list_suites: Annotated[bool, typer.Option("--list", help="Name the suites.")] = False,
    verbose: Verbose = False,
) -> None:
    """Measure latency and throughput on this machine. Only in a checkout of the source."""
    try:
        from benchmarks.runner import SUITES
    except ModuleNotFoundError as error:
        if error.name != "benchmarks":
            raise
        raise LivedubError("bench works in a checkout of livedub's source only, with `make bench`") from None
    from clients.bench import BenchOptions, compare_reports, run_bench

    console = console_of(ctx)
    if list_suites:
        console.result("\n".join(f"{name:12} {known.what}" for name, known in SUITES.items()))
        return
    if compare:
        compare_reports(console, *compare, anyway=anyway)
        return
    check_choice("--suite", suite, tuple(SUITES))
    check_report(json)
    if html is not None:
        check_ending(html, (".html",))
        check_report(html, *([json] if json else []))
    run_bench(console, BenchOptions(suite, backend, seconds, reports or (), json, html, anyway))
