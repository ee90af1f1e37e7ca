"""A report as one HTML file that needs nothing else: plots, tables, the machine and the method."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from benchmarks import charts
from benchmarks.charts import Range, Series, Step
from benchmarks.load import why_busy
from benchmarks.schema import Metadata, Report, Result
from benchmarks.tables import BUSY, MARK, Line, left_out, lines_of, number, shown

_STYLE = Path(__file__).with_name("page.css")
TITLES = {
    "stages": "Stages of a frame",
    "render": "Painting a face",
    "audio": "Lips from sound",
    "pipeline": "One stream in real time",
    "capacity": "How many streams",
    "startup": "From nothing to the first frame",
    "tracker": "Tracking the face",
}


class Page:
    """One page.

    Args:
        report: what was measured.
        anyway: show numbers that mean little, with a mark.
    """

    def __init__(self, report: Report, *, anyway: bool = False) -> None:
        self._report, self._anyway = report, anyway
        self._suites = lines_of(report.results)
        variants = dict.fromkeys(
            str(r.parameters["variant"]) for r in report.results if "variant" in r.parameters
        )
        self._colours = {variant: index % charts.COLOURS for index, variant in enumerate(variants)}

    def text(self) -> str:
        """The whole file."""
        metadata = self._report.metadata
        body = [
            "<h1>livedub bench</h1>",
            f'<p class="soft">{escape(_machine(metadata))} · {escape(metadata.utc_time)}</p>',
            *self._warning(),
            *self._cards(),
        ]
        for suite, lines in self._suites.items():
            body += [
                f"<h2>{escape(TITLES.get(suite, suite))}</h2>",
                *self._plots(suite, lines),
                self._table(lines),
            ]
        body += [*self._left_out(), *_about(metadata)]
        head = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>livedub bench, {escape(metadata.utc_time)}</title>"
            f"<style>{_STYLE.read_text()}</style></head>"
        )
        return f"{head}<body>{''.join(body)}</body></html>\n"

    def _shown(self, result: Result) -> bool:
        return shown(result, anyway=self._anyway)

    def _warning(self) -> Iterator[str]:
        spoiled = [result for result in self._report.results if not result.trusted]
        if spoiled:
            why = why_busy(spoiled[0].load, self._report.metadata.cores) or "see its load"
            what, count = f"marked {MARK}" if self._anyway else "not shown", len(self._report.results)
            yield (
                f'<p class="warn">The machine was busy during {len(spoiled)} of {count} results (for example'
                f" {escape(spoiled[0].name)}: {escape(why)}). Their wall-clock times mean little and"
                f" are {what}."
                "</p>"
            )

    def _cards(self) -> Iterator[str]:
        cards = [
            *self._card(
                "capacity", lambda r: ": sessions" in r.name, lambda r: number(r.p50), "sessions at 25 fps"
            ),
            *self._card("pipeline", _latency, lambda r: f"{number(r.p99)} ms", "p99 latency, one stream"),
            *self._card(
                "stages", lambda r: r.parameters.get("stage") == "whole", _both, "a frame and its sound, p50"
            ),
            *self._card("startup", lambda r: "from nothing" in r.name, _seconds, "to the first frame"),
        ]
        if cards:
            yield f'<div class="cards">{"".join(cards)}</div>'

    def _card(
        self, suite: str, wanted: Callable[[Result], bool], value: Callable[[Result], str], what: str
    ) -> Iterator[str]:
        """The best variant's."""
        found = [line.first for line in self._suites.get(suite, ()) if wanted(line.first)]
        if not found:
            return
        visible = [result for result in found if self._shown(result)]
        best = min(visible or found, key=lambda r: -r.p50 if r.better == "higher" else r.p50)
        mark = "" if best.trusted else MARK
        big = f"{value(best)}{mark}" if visible else f'<span class="busy">{BUSY}</span>'
        variant = escape(str(best.parameters.get("variant", "")))
        yield f'<div class="card"><b>{big}</b>{what}<br><small>{variant}</small></div>'

    def _plots(self, suite: str, lines: Sequence[Line]) -> Iterator[str]:
        kinds: Mapping[str, Callable[[Sequence[Line]], Iterator[str]]] = {
            "stages": self._stages,
            "pipeline": self._pipeline,
            "capacity": self._capacity,
            "startup": self._startup,
        }
        figures = list(kinds.get(suite, self._ranges)(lines))
        if figures:
            yield f'<div class="plots">{"".join(figures)}</div>'

    def _visible(self, line: Line) -> Result | None:
        """What of a line may be shown: CPU time where the wall's is not."""
        for result in (line.first, line.others.get("process_cpu")):
            if result is not None and self._shown(result):
                return result
        return None

    def _stages(self, lines: Sequence[Line]) -> Iterator[str]:
        shared = [line for line in lines if line.first.parameters.get("backend") == "any"]
        whole = [line for line in lines if line.first.parameters.get("stage") == "whole"]
        falls = {}
        for variant in self._colours:
            network = [
                line
                for line in lines
                if (line.first.parameters.get("variant"), line.first.parameters.get("stage"))
                == (variant, "network")
            ]
            if network:
                falls[variant] = _in_order([*shared, *network])
        yield from self._waterfalls(falls, whole[0].first.deadline_ms if whole else None)
        yield from self._histogram(whole)

    def _waterfalls(self, falls: Mapping[str, Sequence[Line]], deadline: float | None) -> Iterator[str]:
        """One for each variant, on one scale; CPU time for all if any wall time may not be seen."""
        firsts = [line.first for lines in falls.values() for line in lines]
        wall = all(self._shown(result) for result in firsts)
        drawn = {variant: self._steps(variant, lines, wall=wall) for variant, lines in falls.items()}
        most = max((sum(step.amount for step in steps) for steps in drawn.values()), default=0.0)
        note = f"Medians of each step on its own, {'wall' if wall else 'CPU time'}."
        note += " Dashed: the time of a frame." if deadline else ""
        for variant, steps in drawn.items():
            if steps:
                yield _figure(variant, charts.waterfall(steps, "ms", deadline, most), note)

    def _steps(self, variant: str, lines: Sequence[Line], *, wall: bool) -> list[Step]:
        chosen = [(line, line.first if wall else line.others.get("process_cpu")) for line in lines]
        return [
            Step(
                str(line.first.parameters["stage"]),
                result.p50,
                self._colours[variant] if "variant" in result.parameters else charts.PLAIN,
            )
            for line, result in chosen
            if result is not None
        ]

    def _pipeline(self, lines: Sequence[Line]) -> Iterator[str]:
        series = self._series(lines)
        if series:
            deadline = lines[0].first.deadline_ms
            plot = charts.timeline(series, "ms", deadline) + charts.legend(series)
            yield _figure(
                "Latency of every frame", plot, "From arrival to dub; dashed: the next frame's arrival."
            )
        yield from self._histogram(lines)

    def _capacity(self, lines: Sequence[Line]) -> Iterator[str]:
        runs = [line for line in lines if line.first.clock == "wall"]
        yield from self._ranges(runs)
        largest: dict[str, Line] = {}  # that holds, of each variant; else the smallest
        for line in runs:
            variant, deadline = str(line.first.parameters.get("variant")), line.first.deadline_ms
            if variant not in largest or (deadline is not None and line.first.p99 <= deadline):
                largest[variant] = line
        yield from self._histogram(list(largest.values()))

    def _startup(self, lines: Sequence[Line]) -> Iterator[str]:
        phases: dict[str, list[Line]] = {}
        for line in lines:
            if "stage" in line.first.parameters and "from nothing" not in line.name:
                phases.setdefault(str(line.first.parameters.get("variant")), []).append(line)
        yield from self._waterfalls(phases, None)

    def _ranges(self, lines: Sequence[Line]) -> Iterator[str]:
        rows = []
        known = [(line, result) for line in lines if (result := self._visible(line))]
        for line, result in known:
            label = line.name if len(line.name) <= 22 else line.name.replace(": ", ":").split(":")[-1]
            rows.append(Range(label, result.p50, result.p99, result.max, self._colour(result)))
        if not rows:
            return
        seen = {
            result.parameters["variant"]: self._colour(result)
            for _, result in known
            if "variant" in result.parameters
        }
        names = (
            charts.legend([Series(str(name), (), colour) for name, colour in seen.items()]) if seen else ""
        )
        cpu = any(result.clock == "process_cpu" for _, result in known)
        deadline = known[0][0].first.deadline_ms
        near = deadline if deadline and deadline < 4 * max(row.p99 for row in rows) else None
        note = "Dot: median; bar: to p99; tick: largest." + (" CPU time." if cpu else "")
        yield _figure("Median to p99", charts.ranges(rows, known[0][1].unit, near) + names, note)

    def _histogram(self, lines: Sequence[Line]) -> Iterator[str]:
        series = self._series(lines)
        if series:
            deadline = lines[0].first.deadline_ms
            plot = charts.histogram(series, lines[0].first.unit, deadline) + charts.legend(series)
            yield _figure("Distribution", plot, "Share of frames; the last bar holds all beyond.")

    def _series(self, lines: Sequence[Line]) -> list[Series]:
        return [
            Series(_label(line), line.first.samples, self._colour(line.first), line.first.at_s)
            for line in lines
            if self._shown(line.first) and line.first.samples
        ]

    def _colour(self, result: Result) -> int:
        return self._colours.get(str(result.parameters.get("variant")), 0)

    def _table(self, lines: Sequence[Line]) -> str:
        head = "".join(
            f"<th>{name}</th>"
            for name in (
                "",
                "unit",
                "p50",
                "95 % interval",
                "p95",
                "p99",
                "max",
                "over deadline",
                "CPU p50",
                "n",
            )
        )
        rows = "".join(self._row(line) for line in lines)
        return (
            f"<details open><summary>numbers</summary><div class=scroll><table><tr>{head}</tr>{rows}"
            "</table></div></details>"
        )

    def _row(self, line: Line) -> str:
        first, cpu = line.first, line.others.get("process_cpu")
        mark = "" if first.trusted else MARK
        if self._shown(first):
            low_high = "–".join(map(number, first.p50_ci)) if first.p50_ci else ""
            spread = [f"{number(value)}{mark}" for value in (first.p95, first.p99, first.max)]
            late = "" if first.missed is None else f"{100 * first.missed:.1f} %"
            cells = [f"{number(first.p50)}{mark}", low_high, *(spread if first.n > 1 else [""] * 3), late]
        else:
            cells = [f'<span class="busy">{BUSY}</span>', *[""] * 5]
        unit = "" if first.unit == "1" else first.unit
        rows = [[escape(line.name), escape(unit), *cells, number(cpu.p50) if cpu else "", str(first.n)]]
        for clock in ("device", "enqueue"):
            other = line.others.get(clock)
            if other is not None and self._shown(other):
                values = [number(value) for value in (other.p50, other.p95, other.p99, other.max)]
                rows.append([f"&nbsp; {clock}", unit, values[0], "", *values[1:], "", "", str(other.n)])
        return "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)

    def _left_out(self) -> Iterator[str]:
        rows = left_out(self._report)
        if rows:
            cells = [(f"{name} ({', '.join(suites)})", reason) for name, reason, suites in rows]
            yield f"<h2>Not measured</h2>{_words(cells)}"


def page(report: Report, *, anyway: bool = False) -> str:
    """The report as one HTML file; see `Page`."""
    return Page(report, anyway=anyway).text()


def _latency(result: Result) -> bool:
    return result.clock == "wall"


def _both(result: Result) -> str:
    return f"{number(result.p50)} ms"


def _seconds(result: Result) -> str:
    return f"{result.p50 / 1000:.1f} s"


def _label(line: Line) -> str:
    variant = str(line.first.parameters.get("variant", line.name))
    streams = line.first.parameters.get("streams")
    return variant if streams is None else f"{variant}, {streams}"


def _in_order(lines: Sequence[Line]) -> list[Line]:
    """A frame's steps as they follow one another; the network before the picture is split."""

    def place(line: Line) -> float:
        order = line.first.parameters.get("order")
        return float(order) if order is not None else split - 0.5

    split = next(
        (
            float(line.first.parameters["order"])
            for line in lines
            if line.first.parameters.get("stage") == "split the picture"
        ),
        1e9,
    )
    return sorted(lines, key=place)


def _figure(title: str, plot: str, note: str) -> str:
    return f"<figure><h3>{escape(title)}</h3>{plot}<figcaption>{escape(note)}</figcaption></figure>"


def _words(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f'<div class=scroll><table class="words">{cells}</table></div>'


def _machine(metadata: Metadata) -> str:
    devices = [f"{device.name} ({device.driver})" for device in metadata.devices]
    return ", ".join([*devices, metadata.cpu_model, f"{metadata.cores} cores"])


def _about(metadata: Metadata) -> Iterator[str]:
    loads = [metadata.load_average, *([metadata.load_average_after] if metadata.load_average_after else [])]
    limit = "none" if metadata.cpu_limit is None else f"{metadata.cpu_limit:g} cores"
    rows = [
        ("commit", metadata.commit + (" with changes" if metadata.dirty else "")),
        ("command", metadata.command),
        ("system", metadata.system),
        ("processor", f"{metadata.cpu_model}; {metadata.cores} cores; {' '.join(metadata.cpu_flags)}"),
        ("governor", metadata.governor or "not told"),
        ("container's limit", limit),
        ("memory", "" if metadata.memory_gib is None else f"{metadata.memory_gib:g} GiB"),
        ("load before and after", "; ".join(" ".join(f"{value:.2f}" for value in load) for load in loads)),
        ("threads", " ".join(map("=".join, metadata.thread_variables.items())) or "not set"),
        ("seed", str(metadata.seed)),
        *((f"device {one.name}", f"driver {one.driver}, sm {one.compute_capability}, {one.memory_mib} MiB,"
           f" up to {one.clock_mhz} MHz") for one in metadata.devices),
        ("python", metadata.python),
        ("libraries", ", ".join(f"{name} {version}" for name, version in metadata.libraries.items())),
        *((f"backend {one.name}", f"{one.version}: {one.detail}" if one.available else one.detail)
          for one in metadata.backends),
    ]  # fmt: skip
    yield "<h2>Machine</h2>" + _words([(name, text) for name, text in rows if text])
    if metadata.method:
        yield "<h2>Method</h2>"
        for line in metadata.method.splitlines():
            subject, _, rest = line.partition(": ")
            yield f"<p><b>{escape(subject)}.</b> {escape(rest)}</p>"
