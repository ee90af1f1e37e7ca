"""Plots of training logs."""

import csv
from pathlib import Path

from engine.errors import InputError


def plot_log(log: Path, picture: Path) -> None:
    """Draw every column of a CSV log over its first one, one panel per unit (`_db` or none), as PNG.

    Raises:
        InputError: the log has no such columns.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with log.open(newline="") as file:
        rows = list(csv.reader(file))
    if not rows or len(rows[0]) < 2:
        raise InputError(f"{log} is no training log: it has no header with two columns or more")
    try:
        numbers = [[float(value) for value in row] for row in rows[1:]]
        columns = {name: [row[index] for row in numbers] for index, name in enumerate(rows[0])}
    except (ValueError, IndexError) as error:
        raise InputError(f"{log} is no training log: {error}") from error
    over, *names = rows[0]
    groups = [[n for n in names if not n.endswith("_db")], [n for n in names if n.endswith("_db")]]
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len([g for g in groups if g]), squeeze=False)[0]
    for panel, group in zip(panels, [g for g in groups if g], strict=True):
        for name in group:
            panel.plot(columns[over], columns[name], label=name.replace("_", " "))
        panel.set_xlabel(over)
        panel.legend()
        panel.grid(alpha=0.3)
    figure.savefig(picture, format="png", dpi=100)
