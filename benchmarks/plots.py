"""Pictures of the experiments, for people who cannot tell red from green too."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.experiments import speed
from benchmarks.experiments.plan import AS_SHOWN, COMPARED, NO_MATCH, PRIOR, SCRATCH, by_clip
from benchmarks.experiments.schema import PHOTO_S, Row, Scores, Study

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito, 2008
MARKERS = ("o", "s", "^", "D", "v", "P")
PANELS = {
    "face_psnr_db": "face crop PSNR, dB",
    "mouth_psnr_db": "mouth PSNR, dB",
    "face_ssim": "face crop SSIM",
    "perceptual": "ST-LPIPS (less is better)",
    "mouth_lmd_px": "mouth landmark distance, px at 256 (less is better)",
    "identity": "likeness to the real face",
}
PHOTO_AT_S = 0.5  # where one picture is on an axis of seconds
MOST_TICKS = 5  # of differences, whose labels are long
DPI = 100
METADATA = {"Software": None}  # so that equal studies make equal files


def draw(study: Study, path: Path) -> None:
    """Write a study's picture as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    DRAWN[study.suite](figure, study.rows)
    figure.savefig(path, dpi=DPI, metadata=METADATA)


def draw_data(figure: Any, rows: Sequence[Row]) -> None:
    """Metrics against seconds; a line per clip, full from the prior, dashed from scratch."""
    seconds = sorted({row.condition.seconds for row in rows})
    for metric, axes in _panels(figure, rows):
        for variant, line, filled in ((PRIOR, "-", True), (SCRATCH, "--", False)):
            for index, (clip, ones) in enumerate(sorted(by_clip(rows, variant).items())):
                points = [(_place(r.condition.seconds), v) for r in ones if (v := _value(r.scores, metric))]
                _line(axes, points, index, line, filled, f"{clip}, {_start(variant)}")
        axes.set_xscale("log")
        names = ["photo" if s == PHOTO_S else f"{s:g}" for s in seconds]
        axes.set_xticks([_place(s) for s in seconds], names)
        axes.minorticks_off()
        axes.set_xlabel("seconds of the face to learn from")
    _finish(figure, "Held-out quality against data", rows)


def draw_speed(figure: Any, rows: Sequence[Row]) -> None:
    """Held-out loss against steps and against seconds."""
    axes = figure.subplots(1, 2, sharey=True)
    clips = sorted({row.condition.clip for row in rows})
    for row in (row for row in rows if row.curve):
        index, scratch = clips.index(row.condition.clip), row.condition.start == SCRATCH
        style = ("--", False) if scratch else ("-", True)
        label = f"{row.condition.clip}, {_start(row.condition.start)}"
        later = [point for point in row.curve if point.step]
        _line(axes[0], [(p.step, p.loss) for p in later], index, *style, label)
        _line(axes[1], [(p.seconds, p.loss) for p in later], index, *style, label)
    for one, name in zip(axes, ("steps", "seconds of optimisation"), strict=True):
        one.set_xscale("log")
        one.set_yscale("log")
        one.yaxis.set_major_formatter("{x:.2g}")
        one.yaxis.set_minor_formatter("{x:.2g}")
        one.set_xlabel(name)
        one.grid(visible=True, which="both", alpha=0.25)
    axes[0].set_ylabel("loss on held-out frames")
    for race in {race.clip: race for race in speed.races(rows)}.values():
        more = "" if race.reached else "more than "
        for one, ratio, what in ((axes[0], race.ratio, "steps"), (axes[1], race.seconds_ratio, "time")):
            one.axhline(race.loss, color="black", linewidth=0.8, linestyle=":")
            one.set_title(f"{more}{ratio:.1f} x the {what} from scratch ({race.clip})", fontsize=10)
    _finish(figure, "Learning one person, four seconds of video", rows)


def draw_parts(figure: Any, rows: Sequence[Row]) -> None:
    """How much worse each metric becomes without a part; each clip a mark."""
    full = {clip: ones[0] for clip, ones in by_clip(rows, PRIOR).items()}
    ways = parts_of(rows)
    for metric, axes in _panels(figure, rows):
        for index, clip in enumerate(sorted(full)):
            base = _value(full[clip].scores, metric)
            points = [
                (value - base, place)
                for place, way in enumerate(ways)
                if base is not None and (value := _value(ways[way].get(clip), metric)) is not None
            ]
            _line(axes, points, index, "none", True, clip)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.locator_params(axis="x", nbins=MOST_TICKS)
        first = axes.get_subplotspec().is_first_col()
        axes.set_yticks(range(len(ways)), list(ways) if first else [""] * len(ways))
        axes.set_ylim(max(len(ways), 1) - 0.5, -0.5)
        axes.set_xlabel("difference to the whole method")
    _finish(figure, "What is lost without each part", rows)


def parts_of(rows: Sequence[Row]) -> dict[str, dict[str, Scores]]:
    """Scores by what was left out, then by clip: parts of learning, and of compositing."""
    ways: dict[str, dict[str, Scores]] = {}
    for row in rows:
        one = row.condition
        if row.scores and one.variant != PRIOR:
            name = "without the prior" if one.variant == SCRATCH else one.variant
            ways.setdefault(name, {})[one.clip] = row.scores
    for row in rows:
        if row.condition.variant == PRIOR:
            for name in (AS_SHOWN, NO_MATCH):
                if name in row.also:
                    ways.setdefault(name, {})[row.condition.clip] = row.also[name]
    return ways


def draw_scale(figure: Any, rows: Sequence[Row]) -> None:
    """Metrics against the people in the prior; from scratch is at none, the shipped one stands apart."""
    clips = sorted({row.condition.clip for row in rows})
    counts = sorted({people for row in rows if (people := people_of(row)) is not None})
    for metric, axes in _panels(figure, rows):
        for index, clip in enumerate(clips):
            for variants, line, name in (
                ((SCRATCH, COMPARED), "-", clip),
                ((PRIOR,), "none", "shipped prior"),
            ):
                points = [
                    (people, value)
                    for row in rows
                    if row.condition.clip == clip and row.condition.variant in variants
                    if (people := people_of(row)) is not None
                    if (value := _value(row.scores, metric)) is not None
                ]
                label = name if name == clip else f"{clip}, {name}"
                _line(axes, sorted(points), index, line, line == "-", label)
        axes.set_xscale("symlog", linthresh=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_xlabel("people in the prior (0: from scratch)")
    _finish(figure, "Unseen people, four seconds of video", rows)


def people_of(row: Row) -> int | None:
    """How many people the prior of a row knows; none from scratch, None where that is not known."""
    return 0 if row.condition.start == SCRATCH else row.condition.people


def _panels(figure: Any, rows: Sequence[Row]) -> list[tuple[str, Any]]:
    """A grid of axes, one for each metric that some row has."""
    there = [m for m in PANELS if any(_value(row.scores, m) is not None for row in rows)] or ["face_psnr_db"]
    columns = min(3, len(there))
    axes = figure.subplots(-(-len(there) // columns), columns, squeeze=False).ravel()
    for empty in axes[len(there) :]:
        empty.set_axis_off()
    for metric, one in zip(there, axes, strict=False):
        one.set_title(PANELS[metric], fontsize=9)
        one.grid(visible=True, alpha=0.25)
        one.tick_params(labelsize=8)
    return list(zip(there, axes, strict=False))


def _line(
    axes: Any, points: Sequence[tuple[float, float]], index: int, line: str, filled: bool, label: str
) -> None:
    if points:
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        face = colour if filled else "white"
        x, y = zip(*points, strict=True)
        style = {"linestyle": line, "marker": marker, "markersize": 5, "markerfacecolor": face}
        axes.plot(x, y, color=colour, label=label, **style)


def _finish(figure: Any, title: str, rows: Sequence[Row]) -> None:
    named: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    if named:
        figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=4, fontsize=8)
    steps = sorted({row.condition.steps for row in rows})
    figure.suptitle(f"{title} ({', '.join(str(step) for step in steps)} steps)", fontsize=11)


def _place(seconds: float) -> float:
    return PHOTO_AT_S if seconds == PHOTO_S else seconds


def _start(start: str) -> str:
    return "from scratch" if start == SCRATCH else "from the prior"


def _value(scores: Scores | None, metric: str) -> float | None:
    value: float | None = getattr(scores, metric, None)
    return value


DRAWN: Mapping[str, Callable[[Any, Sequence[Row]], None]] = {
    "data": draw_data,
    "speed": draw_speed,
    "parts": draw_parts,
    "scale": draw_scale,
}
