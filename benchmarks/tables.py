"""A report for reading in a terminal: a block for each suite, a line for each thing measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.load import why_busy
from benchmarks.schema import Clock, Report, Result

BUSY = "busy"
MARK = "~"  # behind a number that was taken while the machine was busy
NAME_COLUMNS = 46
_COLUMNS = ("p50", "p95", "p99", "max")


@dataclass(frozen=True)
class Line:
    """What was measured, on all its clocks.

    Attributes:
        first: the result that a reader wants: wall time, or what there is.
        others: by clock.
    """

    first: Result
    others: dict[Clock, Result]

    @property
    def name(self) -> str:
        """Of what was measured."""
        return self.first.name


def lines_of(results: Sequence[Result]) -> dict[str, list[Line]]:
    """Lines by suite, in order."""
    grouped: dict[tuple[str, str], dict[Clock, Result]] = {}
    for result in results:
        grouped.setdefault((result.suite, result.name), {})[result.clock] = result
    suites: dict[str, list[Line]] = {}
    for (suite, _), clocks in grouped.items():
        first = clocks.pop("wall", None) or clocks.pop(next(iter(clocks)))
        suites.setdefault(suite, []).append(Line(first, clocks))
    return suites


def shown(result: Result, *, anyway: bool) -> bool:
    """Whether a result's numbers may be seen."""
    return result.trusted or anyway


def left_out(report: Report) -> list[tuple[str, str, list[str]]]:
    """What was not measured, why, and in which suites."""
    found: dict[tuple[str, str], list[str]] = {}
    for skipped in report.skipped:
        found.setdefault((skipped.name, skipped.reason), []).append(skipped.suite)
    return [(name, reason, list(dict.fromkeys(suites))) for (name, reason), suites in found.items()]


def left_out_text(report: Report) -> str:
    """The same, a line each."""
    return "\n".join(
        f"not measured: {name} ({', '.join(suites)}): {reason}" for name, reason, suites in left_out(report)
    )


def number(value: float) -> str:
    """Three figures, without an exponent."""
    if value >= 1000 or value == int(value) < 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def table(report: Report, *, anyway: bool = False) -> str:
    """The results for reading.

    Args:
        report: what was measured.
        anyway: show numbers that mean little, with a mark.
    """
    width = max(NAME_COLUMNS, *(len(result.name) for result in report.results))
    blocks = [
        "\n".join(_block(suite, lines, width, anyway=anyway))
        for suite, lines in lines_of(report.results).items()
    ]
    notes = "\n".join(_notes(report, anyway=anyway))
    return "\n\n".join([*blocks, *([notes] if notes else [])])


def _block(suite: str, lines: Sequence[Line], width: int, *, anyway: bool) -> Iterator[str]:
    heads = "".join(f"{head:>9}" for head in _COLUMNS)
    yield f"{suite:{width}} {'':8}{heads}{'CPU p50':>9}{'n':>6}"
    for line in lines:
        yield _line(line, width, anyway=anyway).rstrip()


def _line(line: Line, width: int, *, anyway: bool) -> str:
    first = line.first
    mark = "" if first.trusted else MARK
    if shown(first, anyway=anyway):
        spread = (first.p50, first.p95, first.p99, first.max)
        values = [f"{number(value)}{mark}" for value in spread[: 1 if first.n == 1 else None]]
    else:
        values = [BUSY] * (1 if first.n == 1 else len(_COLUMNS))
    cpu = line.others.get("process_cpu")
    unit = first.unit if first.clock != "process_cpu" else f"CPU {first.unit}"
    columns = "".join(f"{value:>9}" for value in values).ljust(9 * len(_COLUMNS))
    return (
        f"{first.name:{width}} {unit:8}{columns}"
        f"{number(cpu.p50) if cpu else '':>9}{first.n:6d}  {_remarks(line, anyway=anyway)}"
    )


def _remarks(line: Line, *, anyway: bool) -> str:
    first, parts = line.first, []
    if first.missed is not None and shown(first, anyway=anyway):
        parts.append(f"{100 * first.missed:.1f} % over {first.deadline_ms:g} ms")
    for clock in ("device", "enqueue"):
        other = line.others.get(clock)
        if other is not None and shown(other, anyway=anyway):
            parts.append(f"{clock} {number(other.p50)}, p99 {number(other.p99)}")
    return "; ".join(parts)


def _notes(report: Report, *, anyway: bool) -> Iterator[str]:
    if report.skipped:
        yield left_out_text(report)
    spoiled = [result for result in report.results if not result.trusted]
    if spoiled:
        reason = why_busy(spoiled[0].load, report.metadata.cores) or "see its load"
        what = f"marked {MARK}" if anyway else f"not shown ({BUSY}; --anyway shows them)"
        yield (
            f"The machine was busy during {len(spoiled)} of {len(report.results)} results, for example"
            f" '{spoiled[0].name}': {reason}. Their wall-clock times mean little and are {what}."
        )
