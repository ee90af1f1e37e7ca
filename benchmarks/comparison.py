"""Two reports side by side: what became faster or slower, and what is noise."""

from collections.abc import Iterator

from benchmarks.schema import Metadata, Report, Result
from benchmarks.spread import differs, ratio_interval
from benchmarks.tables import BUSY, MARK, number


def compare(before: Report, after: Report, *, anyway: bool = False) -> str:
    """The results that both reports have, with a verdict each.

    Args:
        before: the old one.
        after: the new one.
        anyway: compare also different machines, and times that were taken on a busy one.

    Raises:
        ValueError: the reports are of different machines.
    """
    strange = list(_differences(before.metadata, after.metadata))
    if strange and not anyway:
        raise ValueError(f"the reports are of different machines ({'; '.join(strange)}); --anyway compares")
    old = {(r.suite, r.name, r.clock): r for r in before.results}
    both = [(was, new) for new in after.results if (was := old.get((new.suite, new.name, new.clock)))]
    if not both:
        return "The reports have no result in common."
    width = max(len(_name(new)) for _, new in both)
    lines = [f"different machines: {one}" for one in strange]
    lines += [f"{_name(new):{width}}  {_line(was, new, anyway=anyway)}" for was, new in both]
    return "\n".join([*lines, *_only(before, after)])


def _differences(a: Metadata, b: Metadata) -> Iterator[str]:
    for what, one, other in (
        ("CPU", a.cpu_model, b.cpu_model),
        ("cores", a.cores, b.cores),
        ("flags", " ".join(a.cpu_flags), " ".join(b.cpu_flags)),
        ("GPU", _names(a), _names(b)),
    ):
        if one != other:
            yield f"{what} {one or 'none'} and {other or 'none'}"


def _names(metadata: Metadata) -> str:
    return ", ".join(device.name for device in metadata.devices)


def _name(result: Result) -> str:
    clock = {"process_cpu": " (CPU)", "device": " (device)", "enqueue": " (enqueue)"}.get(result.clock, "")
    return f"{result.suite}: {result.name}{clock}"


def _line(was: Result, new: Result, *, anyway: bool) -> str:
    trusted = was.trusted and new.trusted
    if not trusted and not anyway:
        return BUSY
    change = f"{number(was.p50):>8} -> {number(new.p50):>8} {new.unit:3}"
    mark = "" if trusted else f" {MARK}"
    return f"{change}  {verdict(was, new)}{mark}"


def verdict(was: Result, new: Result) -> str:
    """Ratio of the medians and what it means."""
    if was.p50 <= 0:
        return "within noise" if new.p50 <= 0 else "was nothing"
    ratio = new.p50 / was.p50
    bounds = ratio_interval(was.samples, new.samples)
    overlap = abs(new.p50 - was.p50) <= max(was.iqr, new.iqr)
    text = f"x {ratio:.2f}" + (f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else "")
    if not differs(ratio, bounds, overlap=overlap):
        return f"{text}  within noise"
    if new.clock == "none":
        return f"{text}  {'better' if (ratio > 1) == (new.better == 'higher') else 'worse'}"
    return f"{text}  {'slower' if ratio > 1 else 'faster'}"


def _only(before: Report, after: Report) -> Iterator[str]:
    a, b = ({_name(result) for result in report.results} for report in (before, after))
    for missing, where in ((a - b, "first"), (b - a, "second")):
        if missing:
            yield f"only in the {where}: {len(missing)} results, such as {min(missing)}"
