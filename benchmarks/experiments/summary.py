"""A study in words and as results of the common schema."""

from collections.abc import Sequence

from benchmarks.common import summarise
from benchmarks.experiments import speed
from benchmarks.experiments.plan import PRIOR, seconds_text
from benchmarks.experiments.schema import METRICS, Bar, Row, Scores, Study
from benchmarks.schema import Result

UNITS = {
    "face_psnr_db": "dB",
    "face_ssim": "1",
    "mouth_psnr_db": "dB",
    "mouth_ssim": "1",
    "mouth_lmd_px": "px",
    "perceptual": "1",
    "identity": "1",
}
SHORT = {
    "face_psnr_db": "face dB",
    "face_ssim": "SSIM",
    "mouth_psnr_db": "mouth dB",
    "mouth_ssim": "SSIM",
    "mouth_lmd_px": "lips px",
    "perceptual": "ST-LPIPS",
    "identity": "identity",
}


def name_of(row: Row) -> str:
    """What a row is about, without its clip."""
    one = row.condition
    people = "" if one.people is None or one.start == "scratch" else f", {one.people} people"
    return f"{seconds_text(one.seconds)}, {one.variant}{people}"


def results_of(study: Study) -> list[Result]:
    """The spread of every metric over the clips, and of the ratios of a race."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in study.rows:
        key = (name_of(row), "" if row.condition.start == "scratch" else row.condition.prior)
        groups.setdefault(key, []).append(row)
    found = []
    for (name, prior), rows in groups.items():
        for metric in METRICS:
            values = [v for row in rows if row.scores and (v := getattr(row.scores, metric)) is not None]
            if values:
                about: dict[str, str | int | float] = {"metric": metric, "prior": prior or "none"}
                label = f"{metric} {name}" + (f" ({prior})" if _twice(name, groups) and prior else "")
                spread = [max(value, 0.0) for value in values]
                found.append(summarise(study.suite, label, spread, unit=UNITS[metric], parameters=about))
    ratios = {race.clip: race.ratio for race in speed.races(study.rows)}
    if ratios:
        found.append(summarise(study.suite, "ratio of steps", list(ratios.values()), unit="1"))
    return found


def _twice(name: str, groups: dict[tuple[str, str], list[Row]]) -> bool:
    return sum(name == other for other, _ in groups) > 1


def text_of(study: Study) -> str:
    """A table of the rows, then the bars."""
    lines = [*_table(study.rows, ways=study.suite == "parts"), ""]
    for race in speed.races(study.rows):
        more = "" if race.reached else "more than "
        lines.append(
            f"{race.clip}: loss {race.loss:.4f} takes {race.steps} steps, {race.seconds:.0f} s; "
            f"from scratch {more}{race.scratch_steps} steps, {race.scratch_seconds:.0f} s: "
            f"{more}{race.ratio:.1f} x the steps, {more}{race.seconds_ratio:.1f} x the time"
        )
    lines += [bar_text(bar) for bar in study.bars]
    return "\n".join(lines)


def bar_text(bar: Bar) -> str:
    """One promise in a line."""
    wanted = f"{'at least' if bar.at_least else 'at most'} {bar.wanted:g}"
    if bar.measured is None:
        return f"open: {bar.what}: {wanted}; nothing shows it yet"
    verdict = {True: "held", False: "MISSED", None: "open"}[bar.held]
    measured = f"{'at least ' if bar.bound else ''}{bar.measured:.2f}"
    return f"{verdict}: {bar.what}: {measured}, wanted {wanted}" + (f" ({bar.note})" if bar.note else "")


def _table(rows: Sequence[Row], *, ways: bool) -> list[str]:
    entries = []
    for row in sorted(rows, key=lambda row: row.condition.clip):
        label = f"{row.condition.clip}, {name_of(row)}"
        if row.scores:
            entries.append((label, row.scores, row))
        if ways and row.condition.variant == PRIOR:
            entries += [(f"{label}, {way}", scores, row) for way, scores in row.also.items()]
    width = max((len(label) for label, _, _ in entries), default=0)
    head = "".join(f"{SHORT[metric]:>10}" for metric in METRICS)
    lines = [f"{'':{width}}{head}{'steps':>8}{'cpu s':>8}"]
    for label, scores, row in entries:
        lines.append(f"{label:{width}}{_cells(scores)}{row.steps:8d}{row.cpu_s:8.0f}")
    return lines


def _cells(scores: Scores) -> str:
    values = (getattr(scores, metric) for metric in METRICS)
    return "".join(f"{'':>10}" if value is None else f"{value:10.3f}" for value in values)
