"""Numbers of streams that were tried at once, whatever runs them."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Self

from benchmarks.bodies import FRAME_MS, StreamRun
from benchmarks.common import Settings, summarise
from benchmarks.painters import Variant
from benchmarks.schema import Load, Result
from benchmarks.stream import Ran

SUITE = "capacity"


class Tries(ABC):
    """Runs any number of streams of one variant; a context manager that ends them.

    Args:
        variant: how they paint.
        settings: of the run.

    Attributes:
        tried: a row for each number.
        quiet: whether the machine was, in all of them.
        cpu_ms: CPU time of a frame with one stream.
    """

    def __init__(self, variant: Variant, settings: Settings) -> None:
        self.variant, self.settings = variant, settings
        self.stack = ExitStack()
        self.tried: list[Result] = []
        self.quiet, self.cpu_ms = True, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    @property
    @abstractmethod
    def most(self) -> int:
        """No number above is tried."""

    @abstractmethod
    def guess(self) -> int:
        """How many may fit, after one was tried."""

    @abstractmethod
    def holds(self, count: int) -> bool:
        """Run so many streams; whether their p99 is within a frame."""


def merged_run(ran: list[Ran]) -> StreamRun:
    """Several streams' frames as one, in the order of their arrival."""
    rows = sorted(
        (at_s, one_ms) for one in ran for at_s, one_ms in zip(one.at_s, one.latency_ms, strict=True)
    )
    return StreamRun(
        latency_ms=[one_ms for _, one_ms in rows],
        at_s=[at_s for at_s, _ in rows],
        cpu_s=sum(one.cpu_s for one in ran),
        wall_s=max(one.wall_s for one in ran),
        dubbed=sum(one.dubbed for one in ran),
    )


def tried_row(variant: Variant, count: int, run: StreamRun, load: Load | None, warmup: int) -> Result:
    """Latency of all frames of so many streams."""
    return summarise(
        SUITE,
        f"{variant.label}: {count} stream{'s' * (count > 1)}",
        run.latency_ms,
        clock="wall",
        warmup=warmup,
        deadline_ms=FRAME_MS,
        parameters={
            "backend": variant.backend,
            "variant": variant.label,
            "streams": count,
            "cpu_share": round(run.cpu_s / run.wall_s, 4) if run.wall_s > 0 else 0.0,
            "dubbed_share": round(run.dubbed / len(run.latency_ms), 4),
        },
        load=load,
        at_s=run.at_s,
    )
