"""A study of lips in numbers, in words, and as results of the common schema."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from benchmarks.common import summarise
from benchmarks.experiments.schema import Bar
from benchmarks.experiments.summary import bar_text
from benchmarks.lips_schema import FootageRow, ForeignRow, LipStudy, SpeechRow, StyleRow
from benchmarks.schema import Result

SUITE = "lips"
UNITS = {
    "correlation": "1",
    "correlation_at_lag": "1",
    "wrong_correlation": "1",
    "lag_ms": "ms",
    "range_ratio": "1",
    "speed_ratio": "1",
    "lve_mm": "mm",
    "lve_centred_mm": "mm",
    "recall": "1",
    "precision": "1",
    "silence_speed_mm_s": "mm/s",
    "sync_confidence": "1",
    "sync_hits": "1",
}
SPREAD = {"lag_ms": abs}  # what may be negative is given by its size


def look_aheads_of(study: LipStudy) -> list[int]:
    """Those measured, ascending."""
    return sorted({row.look_ahead_ms for row in study.silence})


def values_of(rows: Iterable[FootageRow], name: str) -> list[float]:
    """A field of the rows, where it is known."""
    return [float(value) for row in rows if (value := getattr(row, name)) is not None]


def mean_of(study: LipStudy, name: str, look_ahead_ms: int) -> float | None:
    """Mean over people of a field: each person's clips count as one."""
    people: dict[str, list[FootageRow]] = {}
    for row in study.footage:
        if row.look_ahead_ms == look_ahead_ms:
            people.setdefault(row.identity, []).append(row)
    means = [float(np.mean(values)) for rows in people.values() if (values := values_of(rows, name))]
    return float(np.mean(means)) if means else None


def sync_ratio(study: LipStudy, look_ahead_ms: int) -> float | None:
    """The prediction's mean sync confidence over that of the real mouths."""
    ours, real = (mean_of(study, name, look_ahead_ms) for name in ("sync_confidence", "sync_real"))
    return ours / real if ours is not None and real else None


def pooled(rows: Iterable[SpeechRow]) -> tuple[float | None, float | None]:
    """Recall and precision over all closures of the rows."""
    counts = np.array([(r.wanted, r.kept, r.made, r.right) for r in rows], np.int64).reshape(-1, 4)
    wanted, kept, made, right = counts.sum(0)
    return (float(kept / wanted) if wanted else None), (float(right / made) if made else None)


def by_language(rows: Sequence[SpeechRow]) -> dict[str, list[SpeechRow]]:
    """Rows by language; English recordings with known sounds apart."""
    groups: dict[str, list[SpeechRow]] = {}
    for row in rows:
        groups.setdefault(row.language + ("" if row.synthetic else " recorded"), []).append(row)
    return groups


def foreign_of(rows: Sequence[ForeignRow], look_ahead_ms: int) -> dict[str, float]:
    """Mean sync confidence by language."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        if row.look_ahead_ms == look_ahead_ms:
            groups.setdefault(row.language, []).append(row.sync_confidence)
    return {language: float(np.mean(values)) for language, values in sorted(groups.items())}


def bars_of(study: LipStudy) -> list[Bar]:
    """What is promised of unseen people, and how it stands; means over people."""

    def mean(name: str, look_ahead_ms: int = 120) -> float | None:
        return mean_of(study, name, look_ahead_ms)

    lags = [abs(lag) for one in look_aheads_of(study) if (lag := mean("lag_ms", one)) is not None]
    recall, precision = pooled(row for row in study.speech if row.look_ahead_ms == 120)
    english, others = (
        pooled(
            r for r in study.speech if r.look_ahead_ms == 120 and r.synthetic and (r.language == "en") == en
        )
        for en in (True, False)
    )
    foreign = foreign_of(study.foreign, 120)
    abroad = [value for language, value in foreign.items() if language != "en"]
    quiet = _over(mean("silence_speed_mm_s"), study.real_silence_mm_s)
    rows: list[tuple[str, float, bool, float | None]] = [
        ("correlation of opening, 120 ms", 0.65, True, mean("correlation")),
        ("that over 240 ms's", 0.95, True, _over(mean("correlation"), mean("correlation", 240))),
        ("0 ms's over that", 0.8, True, _over(mean("correlation", 0), mean("correlation"))),
        ("largest mean lag of any look-ahead, ms", 20, False, max(lags, default=None)),
        ("range over the real one's, 120 ms", 0.8, True, mean("range_ratio")),
        ("range over the real one's, 120 ms", 1.2, False, mean("range_ratio")),
        ("p b m closed, 120 ms", 0.9, True, recall),
        ("closures that are p b m, 120 ms", 0.8, True, precision),
        ("lip speed in pauses over real people's in silence", 1.5, False, quiet),
        ("sync measure over real mouths', 120 ms", 0.9, True, sync_ratio(study, 120)),
        ("p b m closed, other languages over English", 0.9, True, _over(others[0], english[0])),
        (
            "sync measure on recordings, other languages over English",
            0.9,
            True,
            _over(float(np.mean(abroad)) if abroad else None, foreign.get("en")),
        ),
        ("people whose own way of speaking beats others'", 1.0, True, _own_best(study.styles)),
    ]
    return [Bar(what=what, wanted=wanted, at_least=least, measured=got) for what, wanted, least, got in rows]


def styles_by_person(rows: Sequence[StyleRow]) -> dict[str, tuple[float, float, float]]:
    """For each person the own way's error, the others', both over the average speaker's, and who is beaten.

    Means over the person's clips; the last is the share of other people's ways that the own one beats.
    """
    people: dict[str, list[StyleRow]] = {}
    for row in rows:
        people.setdefault(row.identity, []).append(row)
    return {
        person: (
            float(np.mean([row.error_own / row.error_average for row in ones])),
            float(np.mean([row.error_others / row.error_average for row in ones])),
            float(np.mean([row.better for row in ones])),
        )
        for person, ones in sorted(people.items())
    }


def style_text(rows: Sequence[StyleRow]) -> str:
    """A line for each person, and what holds of all."""
    people = styles_by_person(rows)
    lines = ["error of ways of speaking, over the average speaker's:"]
    for person, (own, others, better) in people.items():
        lines.append(f"  {person}: own {own:.3f}, others {others:.3f}, beats {100 * better:.0f} % of them")
    if people:
        own, others, better = (float(value) for value in np.mean(list(people.values()), axis=0))
        lines.append(f"  mean: own {own:.3f}, others {others:.3f}, beats {100 * better:.0f} % of them")
        gains = [row.error_own < row.error_average for row in rows]
        lines.append(f"  better than the average speaker on {sum(gains)} of {len(gains)} pieces of speech")
    return "\n".join(lines)


def _own_best(rows: Sequence[StyleRow]) -> float | None:
    """Share of people whose own way predicts them better than others' do on the mean."""
    wins = [own < others for own, others, _ in styles_by_person(rows).values()]
    return float(np.mean(wins)) if wins else None


def _over(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def results_of(study: LipStudy) -> list[Result]:
    """The spread of every metric over clips, and over recordings for closures."""
    found = []
    for look_ahead_ms in look_aheads_of(study):
        rows = [row for row in study.footage if row.look_ahead_ms == look_ahead_ms]
        about: Mapping[str, str | int | float] = {"look_ahead_ms": look_ahead_ms}
        samples = {name: values_of(rows, name) for name in UNITS}
        speech = [row for row in study.speech if row.look_ahead_ms == look_ahead_ms]
        samples["recall p b m"] = [row.kept / row.wanted for row in speech if row.wanted]
        samples["precision p b m"] = [row.right / row.made for row in speech if row.made]
        quiet = [row.speed_mm_s for row in study.silence if row.look_ahead_ms == look_ahead_ms]
        samples["speed in noise mm/s"] = quiet
        for name, values in samples.items():
            if values:
                size: Callable[[float], float] = SPREAD.get(name, lambda value: max(value, 0.0))
                unit = "mm/s" if "mm/s" in name else UNITS.get(name, "1")
                label, sizes = f"{name} {look_ahead_ms} ms", [size(value) for value in values]
                found.append(summarise(SUITE, label, sizes, unit=unit, parameters=dict(about)))
    return found


def text_of(study: LipStudy) -> str:
    """Tables: means over people for each look-ahead, closures and sync by language, silence."""
    shown = look_aheads_of(study)
    width = 32
    lines = [f"{'look-ahead, ms':{width}}" + "".join(f"{one:>9d}" for one in shown)]

    def line(name: str, values: Iterable[float | None]) -> None:
        cells = (f"{'-':>9}" if value is None else f"{value:9.3f}" for value in values)
        lines.append(f"{name:{width}}" + "".join(cells))

    if study.footage:
        for name, unit in UNITS.items():
            line(f"{name} ({unit})" if unit != "1" else name, [mean_of(study, name, one) for one in shown])
        languages = dict.fromkeys(sorted(row.language for row in study.footage))
        for language in languages if len(languages) > 1 else ():
            some = [r for r in study.footage if r.language == language]
            correlations = [
                values_of((r for r in some if r.look_ahead_ms == one), "correlation") for one in shown
            ]
            line(
                f"correlation, {language or 'unknown'}",
                [float(np.mean(v)) if v else None for v in correlations],
            )
        line("sync over the real mouths'", [sync_ratio(study, one) for one in shown])
        line("sync hits of the real mouths", [mean_of(study, "sync_hits_real", one) for one in shown])
    for language, rows in by_language(study.speech).items():
        scores = [pooled(row for row in rows if row.look_ahead_ms == one) for one in shown]
        line(f"p b m recall, {language}", [recall for recall, _ in scores])
        line(f"p b m precision, {language}", [precision for _, precision in scores])
    foreign = {one: foreign_of(study.foreign, one) for one in shown}
    for language in sorted({name for values in foreign.values() for name in values}):
        line(f"sync on recordings, {language}", [foreign[one].get(language) for one in shown])
    for kind, gated in dict.fromkeys((row.kind, row.gated) for row in study.silence):
        quiet = {r.look_ahead_ms: r.speed_mm_s for r in study.silence if (r.kind, r.gated) == (kind, gated)}
        line(f"mm/s, {kind}{', gated' if gated else ''}", [quiet.get(one) for one in shown])
    if study.real_silence_mm_s is not None:
        lines.append(
            f"real lips in silence: {study.real_silence_mm_s:.1f} mm/s over {study.real_silence_s:.0f} s"
        )
    if study.styles:
        lines += ["", style_text(study.styles)]
    lines += ["", *(bar_text(bar) for bar in bars_of(study))]
    return "\n".join(lines)
