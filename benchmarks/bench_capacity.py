"""How many streams of different actors one machine holds at 25 frames a second, 1280 x 720.

Open loop: every stream's frames arrive every 40 ms whatever we do, the streams spread over that time. The
largest number of streams counts whose p99 latency, over all their frames, is within one frame; one more
was tried and was not. Each stream is a process of one thread, as in a live session: that is what the
product does, a fault ends one stream only, and Python's lock is not shared.

Beside it stands what CPU time alone allows: the bound that no scheduling can beat, and that load from
elsewhere does not spoil.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bodies import FRAME_MS
from benchmarks.common import Settings, summarise
from benchmarks.device_capacity import DeviceStreams
from benchmarks.load import Counters, cores_here, load_between, read_counters
from benchmarks.painters import Variant, in_turn
from benchmarks.schema import Load, Result, Skipped
from benchmarks.stream import Child, Go, Ran
from benchmarks.tries import SUITE, Tries, merged_run, tried_row
from engine.errors import BackendError

WARM_FRAMES = 10
LEAD_NS = 200_000_000
MOST_STREAMS = 512
MIB_A_STREAM = 600
WINDOW_SHARE = 0.5  # of the seconds of a run, for each number of streams that is tried
_NS_PER_MS = 1e6


def run(settings: Settings) -> list[Result]:
    """See the module.

    Raises:
        ValueError: an unknown backend.
    """
    results: list[Result] = []
    for variant in in_turn(settings, SUITE):
        try:
            kind = DeviceStreams if variant.on_device else Streams
            with kind(variant, settings) as streams:
                results += _search(streams)
        except BackendError as error:
            settings.skipped.append(Skipped(suite=SUITE, name=variant.label, reason=str(error)))
    return results


def largest(holds: Callable[[int], bool], guess: int, most: int) -> tuple[int, bool]:
    """The largest number that holds, if all below it do, and whether one more was tried.

    Args:
        holds: asked once for each number, few of them.
        guess: where to begin.
        most: no number above is tried.
    """
    low, high = 0, most + 1
    count = min(max(1, guess), most)
    while high - low > 1:
        if holds(count):
            low = count
            count = min(low + max(1, low // 4), (low + high) // 2 if high <= most else most)
        else:
            high = count
            count = max(low + 1, high - max(1, high // 4)) if low == 0 else (low + high) // 2
    return low, high <= most


class Streams(Tries):
    """Processes of one variant, started as they are needed; a context manager that ends them."""

    def __init__(self, variant: Variant, settings: Settings) -> None:
        super().__init__(variant, settings)
        self._children: list[Child] = []

    @property
    def most(self) -> int:
        """No more than memory has room for."""
        if self.settings.quick:
            return 1
        return min(MOST_STREAMS, max(1, _memory_mib() // MIB_A_STREAM))

    def guess(self) -> int:
        """As many as the processors have time for."""
        return max(1, math.floor(cpu_bound(self.cpu_ms)))

    def holds(self, count: int) -> bool:
        """Run so many streams; whether their p99 is within a frame."""
        self.settings.on_progress(f"{SUITE}: {self.variant.label}, {count} at once", len(self.tried), None)
        self._have(count)
        seconds = self.settings.seconds * WINDOW_SHARE
        frames = 3 if self.settings.quick else max(1, round(seconds * 1000 / FRAME_MS))
        before = read_counters()
        start_ns = time.monotonic_ns() + LEAD_NS
        for index, child in enumerate(self._children[:count]):
            child.go(Go(start_ns + round(index * FRAME_MS * _NS_PER_MS / count), frames))
        ran = [child.ran() for child in self._children[:count]]
        return self._took(ran, _load(before, read_counters(), ran))

    def _have(self, count: int) -> None:
        new = [
            self.stack.enter_context(Child(self.variant.backend, self.variant.precision, seed, WARM_FRAMES))
            for seed in range(len(self._children), count)
        ]
        for child in new:
            child.ready()
        self._children += new

    def _took(self, ran: list[Ran], load: Load | None) -> bool:
        run = merged_run(ran)
        self.tried.append(tried_row(self.variant, len(ran), run, load, WARM_FRAMES))
        self.quiet = self.quiet and self.tried[-1].trusted
        self.cpu_ms = self.cpu_ms or 1000 * run.cpu_s / len(run.latency_ms)
        return self.tried[-1].p99 <= FRAME_MS


def cpu_bound(cpu_ms: float) -> float:
    """How many frames of that CPU time all processors have room for in one frame's time."""
    return cores_here() * FRAME_MS / cpu_ms if cpu_ms > 0 else math.inf


def _load(before: Counters | None, after: Counters | None, ran: list[Ran]) -> Load | None:
    if before is None or after is None:
        return None
    return load_between(before, after, sum(one.cpu_s for one in ran) + after.own_s - before.own_s)


def _search(streams: Tries) -> list[Result]:
    """First one stream, which says how many may fit; then the largest number."""
    about: dict[str, str | int | float] = {
        "backend": streams.variant.backend,
        "variant": streams.variant.label,
    }
    known = {1: streams.holds(1)}

    def holds(count: int) -> bool:
        if count not in known:
            known[count] = streams.holds(count)
        return known[count]

    bound = cpu_bound(streams.cpu_ms)
    found, one_more = largest(holds, streams.guess() if known[1] else 1, streams.most)
    last = max(streams.tried, key=lambda result: int(result.parameters["streams"]))
    label = "sessions" if one_more else "sessions, at least (more was not tried)"
    sessions = summarise(
        SUITE, f"{streams.variant.label}: {label}", [float(found)], unit="1", parameters=about,
        better="higher", load=last.load, trusted=streams.quiet,
    )  # fmt: skip
    tried = sorted(streams.tried, key=lambda result: int(result.parameters["streams"]))
    if streams.variant.on_device:  # of which the host's time is a part only
        return [sessions, *tried]
    by_cpu = summarise(
        SUITE, f"{streams.variant.label}: bound by CPU time", [bound], unit="1", better="higher",
        parameters=about | {"cpu_ms_a_frame": round(streams.cpu_ms, 3), "cores": cores_here()},
    )  # fmt: skip
    return [sessions, by_cpu, *tried]


def _memory_mib() -> int:
    """Available now, where the system tells."""
    try:
        text = Path("/proc/meminfo").read_text()
        return int(text.partition("MemAvailable:")[2].split()[0]) // 1024
    except (OSError, ValueError, IndexError):
        return 4096
