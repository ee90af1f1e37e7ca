"""What a file of benchmark results holds: the only description of it, and its check.

A report is JSON: `{"metadata": {...}, "results": [...]}`, no other keys anywhere. Every result gives the
spread of one measured quantity: never a mean, never a single run.
"""

from typing import Annotated, Any, Literal

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
Clock = Literal["wall", "process_cpu", "none"]


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and when.

    Attributes:
        utc_time: start, ISO 8601 with seconds, "...Z".
        commit: of the checkout, "unknown" outside of one.
        dirty: whether the checkout had changes that are not in the commit.
        python: version.
        libraries: version by distribution name, of those that are installed.
        cpu_model: as the system says, or "unknown".
        cpu_flags: those instruction sets that decide about speed here.
        cores: logical processors that this process may use.
        load_average: of the whole machine over 1, 5 and 15 minutes, at the start.
        quiet: whether that load leaves wall-clock times worth believing; if not, read process_cpu.
        thread_variables: what the environment says about threads, e.g. OMP_NUM_THREADS.
    """

    utc_time: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    commit: Text
    dirty: bool
    python: Text
    libraries: dict[str, str]
    cpu_model: Text
    cpu_flags: list[str]
    cores: Annotated[int, msgspec.Meta(ge=1)]
    load_average: tuple[Amount, Amount, Amount]
    quiet: bool
    thread_variables: dict[str, str]


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The spread of one quantity.

    Attributes:
        suite: name of the suite.
        name: what was measured; unique within the suite together with `clock`.
        unit: of `p50` to `iqr`.
        clock: wall time, CPU time of the whole process (all threads), or none for what is not a time.
        p50: median; `p95`, `p99`: percentiles; `max`: the worst.
        iqr: p75 - p25.
        n: number of samples, after `warmup` more that were not kept.
        deadline_ms: what a sample had to stay under, if there is such a bar.
        missed: share of samples above `deadline_ms`.
        parameters: what distinguishes this result from its neighbours, for tables.
    """

    suite: Text
    name: Text
    unit: Text
    clock: Clock
    p50: Amount
    p95: Amount
    p99: Amount
    max: Amount
    iqr: Amount
    n: Annotated[int, msgspec.Meta(ge=1)]
    warmup: Count
    deadline_ms: Amount | None = None
    missed: Ratio | None = None
    parameters: dict[str, str | int | float] = {}

    def __post_init__(self) -> None:
        if not self.p50 <= self.p95 <= self.p99 <= self.max:
            raise ValueError(f"percentiles of '{self.name}' are not in order")
        if (self.deadline_ms is None) != (self.missed is None):
            raise ValueError(f"'{self.name}' needs both of deadline_ms and missed, or neither")


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of one suite."""

    metadata: Metadata
    results: Annotated[list[Result], msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        names = [(result.suite, result.name, result.clock) for result in self.results]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"results are not unique: {twice}")


def encode_report(report: Report) -> bytes:
    """Indented JSON with a newline at its end.

    Raises:
        ValueError: the report is not valid, for example a value is not a number.
    """
    data = msgspec.json.encode(report)
    decode_report(data)  # JSON turns NaN and infinity into null, which is refused here
    return msgspec.json.format(data, indent=2) + b"\n"


def decode_report(data: bytes | str) -> Report:
    """Read and check.

    Raises:
        ValueError: it is not JSON, or not a report; the message says where.
    """
    try:
        return msgspec.json.decode(data, type=Report)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a benchmark report: {error}") from error


def to_dict(report: Report) -> dict[str, Any]:
    """The report as plain dictionaries and lists, as in its JSON."""
    plain: dict[str, Any] = msgspec.to_builtins(report)
    return plain
