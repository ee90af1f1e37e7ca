"""What a file of benchmark results holds: the only description of it, and its check.

A report is JSON: `{"metadata": {...}, "results": [...]}`, with `"skipped": [...]` if something could not be
measured; no other keys anywhere. Every result gives the spread of one measured quantity: never a mean, never
a single run. `benchmarks/schema.json` is made from here: `python -m benchmarks.schema` prints it.
"""

import re
import sys
from typing import Annotated, Any, Literal

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
Interval = tuple[Amount, Amount]
Clock = Literal["wall", "process_cpu", "device", "enqueue", "none"]
Better = Literal["lower", "higher"]
SCHEMA_ID = "livedub-bench-1"


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One accelerator.

    Attributes:
        name: as its driver says.
        driver: version of the driver, "" if unknown.
        compute_capability: such as "9.0", "" if unknown.
        memory_mib: of the device; None if unknown.
        clock_mhz: highest clock of its processors; None if unknown.
    """

    name: Text
    driver: str = ""
    compute_capability: str = ""
    memory_mib: Count | None = None
    clock_mhz: Count | None = None


class BackendRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One backend, also one that cannot be had here.

    Attributes:
        name: as `--backend` takes it.
        available: whether it can run here.
        version: of its library, "" if not available.
        detail: which precision it chooses, or why it cannot run.
    """

    name: Text
    available: bool
    version: str
    detail: str


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What else the machine did while a result was measured.

    Attributes:
        others_cores: processor time of everybody else, in cores.
        steal_cores: what the hypervisor took away, in cores.
        waited_share: share of the time in which a thread of ours was ready to run and did not; None if the
            system does not tell, or if our own processes wait for one another by intent.
        throttled_share: share of the time in which a container's limit held us back.
    """

    others_cores: Amount
    steal_cores: Amount
    waited_share: Amount | None = None
    throttled_share: Amount = 0.0


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
        load_average_after: as `load_average`, at the end.
        system: operating system and its kernel.
        cpu_limit: of the container, cores; None if there is none.
        governor: of the processor's clock, "" if the system does not tell.
        memory_gib: of the machine.
        devices: accelerators.
        backends: all that livedub knows.
        seed: of everything random.
        command: what was asked for.
        method: how this was measured and what the numbers mean.
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
    load_average_after: tuple[Amount, Amount, Amount] | None = None
    system: str = ""
    cpu_limit: Amount | None = None
    governor: str = ""
    memory_gib: Amount | None = None
    devices: list[Device] = []
    backends: list[BackendRow] = []
    seed: int = 0
    command: str = ""
    method: str = ""


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The spread of one quantity.

    Attributes:
        suite: name of the suite.
        name: what was measured; unique within the suite together with `clock`.
        unit: of `p50` to `iqr`, the intervals and the samples.
        clock: wall time, CPU time of the whole process (all threads), device time between two events, wall
            time that the host needs to hand work to a device, or none for what is not a time.
        p50: median; `p95`, `p99`: percentiles; `max`: the worst.
        iqr: p75 - p25.
        n: number of samples, after `warmup` more that were not kept.
        deadline_ms: what a sample had to stay under, if there is such a bar.
        missed: share of samples above `deadline_ms`.
        parameters: what distinguishes this result from its neighbours, for tables.
        better: which direction is.
        trusted: whether the machine was quiet enough for this clock; if not, the numbers are not to be shown.
        load: what else the machine did; None if unknown.
        p50_ci: 95 % bootstrap interval of `p50`; `p99_ci` of `p99`. Within this run only.
        samples: in the order of measuring, rounded; empty, or all `n`, or at most 1500 evenly taken ones.
        at_s: when each of `samples` began, since the first, where that is part of what was measured.
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
    better: Better = "lower"
    trusted: bool = True
    load: Load | None = None
    p50_ci: Interval | None = None
    p99_ci: Interval | None = None
    samples: list[Amount] = []
    at_s: list[Amount] = []

    def __post_init__(self) -> None:
        if not self.p50 <= self.p95 <= self.p99 <= self.max:
            raise ValueError(f"percentiles of '{self.name}' are not in order")
        if (self.deadline_ms is None) != (self.missed is None):
            raise ValueError(f"'{self.name}' needs both of deadline_ms and missed, or neither")
        if self.at_s and len(self.at_s) != len(self.samples):
            raise ValueError(f"'{self.name}' has {len(self.at_s)} times for {len(self.samples)} samples")


class Skipped(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something that was not measured.

    Attributes:
        suite: that would have.
        name: backend and precision, or what else is missing.
        reason: why, and what to do about it.
    """

    suite: Text
    name: Text
    reason: Text


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of some suites."""

    metadata: Metadata
    results: Annotated[list[Result], msgspec.Meta(min_length=1)]
    skipped: list[Skipped] = []

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
    return _SAMPLES.sub(_on_one_line, msgspec.json.format(data, indent=2)) + b"\n"


_SAMPLES = re.compile(rb'"(?:samples|at_s|p50_ci|p99_ci)": \[[^\]]*\]')


def _on_one_line(found: "re.Match[bytes]") -> bytes:
    return b" ".join(found[0].split()).replace(b"[ ", b"[").replace(b" ]", b"]")


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


def json_schema() -> bytes:
    """The JSON Schema (draft 2020-12) of a report, as in `benchmarks/schema.json`."""
    described = msgspec.json.schema(Report)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID}
    return msgspec.json.format(msgspec.json.encode(head | described), indent=2) + b"\n"


if __name__ == "__main__":
    sys.stdout.write(json_schema().decode())
