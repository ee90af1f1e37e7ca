"""Plots as inline SVG, drawn for a phone's width; colours come from the page's style, for light and dark.

Each function gives one `<svg>` as text. `Series` and rows carry a colour's number; see `COLOURS`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

COLOURS, PLAIN = 6, 6  # of backends; and for what no backend changes
WIDTH, LEFT, RIGHT = 420.0, 118.0, 52.0
BAR, ROW = 11.0, 19.0
PLOT_HEIGHT, PLOT_LEFT = 150.0, 34.0
BINS = 48
TICKS = 5
MOST_DOTS = 1500


@dataclass(frozen=True)
class Series:
    """Samples of one thing; `at` says when each was, if that is shown."""

    label: str
    values: Sequence[float]
    colour: int = 0
    at: Sequence[float] = ()


@dataclass(frozen=True)
class Range:
    """One row of `ranges`: a dot at p50, a bar to p99, and a tick at the largest."""

    label: str
    p50: float
    p99: float
    most: float
    colour: int = 0


@dataclass(frozen=True)
class Step:
    """One row of `waterfall`."""

    label: str
    amount: float
    colour: int = 0


def waterfall(steps: Sequence[Step], unit: str, deadline: float | None = None, at_least: float = 0.0) -> str:
    """Steps one after the other, each beginning where the one before ends.

    Args:
        steps: in order.
        unit: of their amounts.
        deadline: marked, if given.
        at_least: how far the scale goes, so that several can be compared.
    """
    total = sum(step.amount for step in steps)
    most = max(total, deadline or 0.0, at_least) or 1.0
    scale, height = (WIDTH - LEFT - RIGHT) / most, ROW * len(steps) + 26
    parts, start = [*_axis(most, scale, height - 20, unit)], 0.0
    for index, step in enumerate(steps):
        y = 4 + ROW * index
        x, width = LEFT + start * scale, max(1.0, step.amount * scale)
        parts.append(_text(LEFT - 6, y + BAR - 1, step.label, "end"))
        parts.append(
            f'<rect class="c{step.colour}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" rx="1.5"/>'
        )
        parts.append(
            _text(min(x + width + 4, WIDTH - 4), y + BAR - 1, _amount(step.amount), "start", "value")
        )
        start += step.amount
    parts += _deadline(deadline, scale, height - 20)
    return _svg(height, parts, f"{_amount(total)} {unit} in {len(steps)} steps")


def ranges(rows: Sequence[Range], unit: str, deadline: float | None = None) -> str:
    """From the median to p99, and the largest, of each row."""
    most = max(*(row.p99 * 1.1 for row in rows), deadline or 0.0, 1e-9)
    scale, height = (WIDTH - LEFT - RIGHT) / most, ROW * len(rows) + 26
    parts = [*_axis(most, scale, height - 20, unit)]
    for index, row in enumerate(rows):
        y = 4 + ROW * index + BAR / 2
        a, b, c = (LEFT + min(value, most) * scale for value in (row.p50, row.p99, row.most))
        parts.append(_text(LEFT - 6, y + 4, row.label, "end"))
        parts.append(f'<line class="s{row.colour} thick" x1="{a:.1f}" x2="{b:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<line class="s{row.colour}" x1="{b:.1f}" x2="{c:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<line class="s{row.colour}" x1="{c:.1f}" x2="{c:.1f}" y1="{y - 3}" y2="{y + 3}"/>')
        parts.append(f'<circle class="c{row.colour}" cx="{a:.1f}" cy="{y}" r="4"/>')
        parts.append(_text(WIDTH - 2, y + 4, _amount(row.p50), "end", "value"))
    parts += _deadline(deadline, scale, height - 20)
    return _svg(height, parts, "medians, p99 and largest")


def histogram(series: Sequence[Series], unit: str, deadline: float | None = None) -> str:
    """How often each value came, share of each series; the last bin holds all that is beyond."""
    pooled = np.concatenate([np.asarray(one.values, np.float64) for one in series])
    low, high = float(pooled.min()), float(np.percentile(pooled, 99.5))
    if deadline is not None and low < deadline < 3 * high:
        high = max(high, 1.05 * deadline)
    high = max(high, low * 1.02 + 1e-9)
    edges = np.linspace(low, high, BINS + 1)
    shares = [np.histogram(np.clip(one.values, low, high), edges)[0] / len(one.values) for one in series]
    top = max(float(share.max()) for share in shares) or 1.0
    across = (WIDTH - PLOT_LEFT - 8) / BINS
    parts = list(_frame(low, high, 100 * top, unit, "%"))
    for one, share in zip(series, shares, strict=True):
        points = [(PLOT_LEFT + index * across, _up(value / top)) for index, value in enumerate(share)]
        outline = " ".join(f"{x:.1f},{y:.1f} {x + across:.1f},{y:.1f}" for x, y in points)
        base = _up(0)
        body = f"{PLOT_LEFT:.1f},{base:.1f} {outline} {WIDTH - 8:.1f},{base:.1f}"
        parts.append(f'<polygon class="f{one.colour}" points="{body}"/>')
    if deadline is not None and low < deadline < high:
        parts += _upright(PLOT_LEFT + (deadline - low) / (high - low) * (WIDTH - PLOT_LEFT - 8))
    return _svg(PLOT_HEIGHT + 34, parts, "histogram")


def timeline(series: Sequence[Series], unit: str, deadline: float | None = None) -> str:
    """Each value when it came."""
    end = max(max(one.at) for one in series) or 1.0
    most = 1.1 * max(*(max(one.values) for one in series), deadline or 0.0)
    parts = list(_frame(0.0, end, most, "s", unit))
    for one in series:
        every = -(-len(one.values) // MOST_DOTS)
        for at, value in list(zip(one.at, one.values, strict=True))[::every]:
            x = PLOT_LEFT + at / end * (WIDTH - PLOT_LEFT - 8)
            parts.append(f'<circle class="c{one.colour}" cx="{x:.1f}" cy="{_up(value / most):.1f}" r="1.3"/>')
    if deadline is not None:
        y = _up(deadline / most)
        parts.append(f'<line class="deadline" x1="{PLOT_LEFT}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
    return _svg(PLOT_HEIGHT + 34, parts, "timeline")


def legend(series: Sequence[Series]) -> str:
    """Names of the colours, as HTML."""
    return '<p class="legend">' + " ".join(
        f'<span><i class="b{one.colour}"></i>{escape(one.label)}</span>' for one in series
    ) + "</p>"  # fmt: skip


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    head = f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">'
    return head + "".join(parts) + "</svg>"


def _up(share: float) -> float:
    return 6 + PLOT_HEIGHT * (1 - share)


def _frame(low: float, high: float, top: float, across: str, up: str) -> Iterator[str]:
    """Axes of a plot: ticks below in one unit, at the left in another."""
    for value in _ticks(low, high):
        x = PLOT_LEFT + (value - low) / (high - low) * (WIDTH - PLOT_LEFT - 8)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{_up(0):.1f}"/>'
        yield _text(x, _up(0) + 13, _amount(value), "middle")
    for value in _ticks(0, top)[1:]:
        y = _up(value / top)
        yield f'<line class="grid" x1="{PLOT_LEFT}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(PLOT_LEFT - 4, y + 4, _amount(value), "end")
    yield f'<line class="axis" x1="{PLOT_LEFT}" x2="{WIDTH - 8}" y1="{_up(0):.1f}" y2="{_up(0):.1f}"/>'
    yield _text(WIDTH - 8, _up(0) + 26, across, "end")
    yield _text(2, 10, up, "start")


def _axis(most: float, scale: float, bottom: float, unit: str) -> Iterator[str]:
    for value in _ticks(0, most):
        x = LEFT + value * scale
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom:.1f}"/>'
        yield _text(x, bottom + 14, _amount(value), "middle")
    yield _text(WIDTH - 2, bottom + 14, unit, "end")


def _deadline(deadline: float | None, scale: float, bottom: float) -> list[str]:
    return [] if deadline is None else _upright(LEFT + deadline * scale, bottom)


def _upright(x: float, bottom: float = PLOT_HEIGHT + 6) -> list[str]:
    return [f'<line class="deadline" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom:.1f}"/>']


def _ticks(low: float, high: float) -> list[float]:
    """A few round values from `low` to `high`."""
    raw = max(high - low, 1e-9) / TICKS
    unit = 10.0 ** np.floor(np.log10(raw))
    step = next(unit * round_ for round_ in (1, 2, 2.5, 5, 10) if unit * round_ >= raw)
    first = np.ceil(low / step) * step
    return [float(round(value, 9)) for value in np.arange(first, high + step * 1e-6, step)]


def _amount(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
