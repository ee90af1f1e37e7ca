"""Pictures of a study of lips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lips_schema import LipStudy, Trace
from benchmarks.lips_summary import look_aheads_of, mean_of, pooled, styles_by_person, sync_ratio
from engine.timing import MEL_RATE_HZ

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito, 2008
PANELS: Mapping[str, tuple[str, tuple[float, float] | None]] = {
    "correlation": ("opening: correlation (bar 0.65)", (0.65, 1.0)),
    "lag_ms": ("lag, ms (bar ±20)", (-20.0, 20.0)),
    "range_ratio": ("range over the real (bar 0.8 to 1.2)", (0.8, 1.2)),
    "lve_mm": ("lip vertex error, mm", None),
    "recall": ("real closures: recall, dashed precision", None),
}
DPI = 75
METADATA = {"Software": None}  # so that equal studies make equal files
REAL, SAID = "black", COLOURS[1]


def draw_look_aheads(study: LipStudy, path: Path) -> None:
    """Metric against look-ahead as PNG: a thin line per clip, a thick one for the mean over people."""
    figure, panels = _figure((12, 6.5), 2, 4)
    shown = look_aheads_of(study)
    for axes, (name, (title, bar)) in zip(panels, PANELS.items(), strict=False):
        _clips(axes, study, name)
        _line(axes, shown, [mean_of(study, name, one) for one in shown], "mean over people")
        if name == "recall":
            _line(axes, shown, [mean_of(study, "precision", one) for one in shown], "precision", "--")
        _dress(axes, title, bar)
    _sync(panels[5], study, shown)
    _phones(panels[6], study, shown)
    _silence(panels[7], study, shown)
    figure.supxlabel("look-ahead, ms", fontsize=9)
    figure.savefig(path, dpi=DPI, metadata=METADATA)


def draw_traces(study: LipStudy, path: Path) -> None:
    """Prediction against truth over five seconds as PNG."""
    figure, panels = _figure((11, 6.0), len(study.traces), 1)
    for axes, trace in zip(panels, study.traces, strict=True):
        at = trace.start_s + np.arange(len(trace.real)) / MEL_RATE_HZ
        axes.plot(at, np.array(trace.real, np.float64), color=REAL, linewidth=1.2, label="real mouth")
        axes.plot(at, np.array(trace.said, np.float64), color=SAID, linewidth=1.4, label="predicted, 120 ms")
        _dress(axes, f"{trace.clip}: correlation {trace.correlation:.2f}", None)
        axes.set_ylabel("opening, cm", fontsize=8)
    panels[0].legend(fontsize=8, loc="upper right")
    panels[-1].set_xlabel("s", fontsize=8)
    figure.savefig(path, dpi=DPI, metadata=METADATA)


def draw_styles(study: LipStudy, path: Path) -> None:
    """How well people's own ways of speaking predict them, and other people's, as PNG."""
    people = styles_by_person(study.styles)
    figure, panels = _figure((7, 1.4 + 0.3 * len(people)), 1, 1)
    axes, places = panels[0], range(len(people))
    own, others, _ = zip(*people.values(), strict=True)
    axes.hlines(places, own, others, color="0.75", linewidth=1.5)
    axes.plot(own, places, "o", color=COLOURS[0], label="own way of speaking")
    axes.plot(others, places, "s", color=COLOURS[1], label="other people's, mean")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yticks(places, people)
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    _dress(axes, "error on unseen speech over the average speaker's (120 ms)", None)
    figure.savefig(path, dpi=DPI, metadata=METADATA)


def chosen(traces: Sequence[Trace]) -> list[Trace]:
    """The best, the median and the worst by correlation."""
    ranked = sorted(traces, key=lambda trace: -trace.correlation)
    picked = dict.fromkeys((0, len(ranked) // 2, len(ranked) - 1))
    return [ranked[index] for index in picked] if ranked else []


def _figure(size: tuple[float, float], rows: int, columns: int) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def _clips(axes: Any, study: LipStudy, name: str) -> None:
    for clip in dict.fromkeys(row.clip for row in study.footage):
        points = [(row.look_ahead_ms, getattr(row, name)) for row in study.footage if row.clip == clip]
        known = [point for point in points if point[1] is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color="0.75", linewidth=0.8)


def _line(
    axes: Any,
    shown: Sequence[int],
    values: Sequence[float | None],
    label: str,
    style: str = "-",
    colour: int = 0,
) -> None:
    known = [(x, y) for x, y in zip(shown, values, strict=True) if y is not None]
    if known:
        x, y = zip(*known, strict=True)
        axes.plot(x, y, style, color=COLOURS[colour], marker="o", markersize=4, linewidth=2, label=label)


def _sync(axes: Any, study: LipStudy, shown: Sequence[int]) -> None:
    _line(axes, shown, [sync_ratio(study, one) for one in shown], "prediction / real")
    _dress(axes, "sync over the real mouths' (bar 0.9)", (0.9, 1.1))


def _phones(axes: Any, study: LipStudy, shown: Sequence[int]) -> None:
    kinds = (("recorded", False), ("synthetic", True))
    for colour, (label, synthetic) in enumerate(kinds):
        rows = [row for row in study.speech if row.synthetic == synthetic]
        scores = [pooled(row for row in rows if row.look_ahead_ms == one) for one in shown]
        _line(axes, shown, [recall for recall, _ in scores], f"{label}: recall", "-", colour)
        _line(axes, shown, [precision for _, precision in scores], f"{label}: precision", "--", colour)
    axes.legend(fontsize=7)
    _dress(axes, "closed on p b m (bars 0.9 and 0.8)", None)
    axes.set_ylim(0, 1.03)


def _silence(axes: Any, study: LipStudy, shown: Sequence[int]) -> None:
    _line(axes, shown, [mean_of(study, "silence_speed_mm_s", one) for one in shown], "pauses of footage")
    for colour, gated in ((1, False), (2, True)):
        rows = [row for row in study.silence if row.gated == gated]
        means = [float(np.mean([r.speed_mm_s for r in rows if r.look_ahead_ms == one])) for one in shown]
        _line(
            axes, shown, means, "noises, behind the gate" if gated else "noises, network alone", "-", colour
        )
    if study.real_silence_mm_s is not None:
        axes.axhline(study.real_silence_mm_s, color="black", linewidth=0.8, label="real lips in silence")
        axes.axhline(1.5 * study.real_silence_mm_s, color="black", linewidth=0.8, linestyle=":", label="bar")
    axes.legend(fontsize=7)
    _dress(axes, "lip speed in silence, mm/s", None)


def _dress(axes: Any, title: str, bar: tuple[float, float] | None) -> None:
    axes.set_title(title, fontsize=9)
    axes.grid(visible=True, alpha=0.25)
    axes.tick_params(labelsize=8)
    if bar:
        axes.axhspan(*bar, color=COLOURS[2], alpha=0.1, linewidth=0)
