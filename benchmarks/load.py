"""What else the machine does while we measure: other processes, the hypervisor, a container's limit.

A wall-clock time says something about the code only if the code could run when it was ready to. Linux tells:
`/proc/stat` counts the processor time of everybody, `/proc/self/task/*/schedstat` how long our own threads
stood in the queue, a container's `cpu.stat` how long its limit stopped them.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.schema import Clock, Load

SHORTEST_S = 0.1  # the system counts in ticks of 10 ms
MOST_WAITED_SHARE = 0.05
MOST_STEAL_CORES = 0.03
MOST_THROTTLED_SHARE = 0.01
MOST_OTHERS_SHARE, LEAST_OTHERS_CORES = 0.1, 0.2  # of all cores; but so much is always around
SPOILED: tuple[Clock, ...] = ("wall", "enqueue")  # clocks that go on while we wait
_NS = 1e9


@dataclass(frozen=True)
class Counters:
    """The system's counters at one moment, in s.

    Attributes:
        wall_s: monotonic.
        own_s: processor time of this process, all threads.
        busy_s: processor time of everybody.
        steal_s: time that the hypervisor took from all processors.
        waited_s: time that our threads were ready and waited for a processor.
        throttled_s: time that the container was held back.
    """

    wall_s: float
    own_s: float
    busy_s: float
    steal_s: float
    waited_s: float = 0.0
    throttled_s: float = 0.0


def read_counters(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> Counters | None:
    """All of them now; None where the system does not tell (only Linux does)."""
    try:
        busy, steal = parse_stat((proc / "stat").read_text(), os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return None
    wall_s, own_s = time.perf_counter(), time.process_time()
    return Counters(wall_s, own_s, busy, steal, _waited_s(proc / "self" / "task"), _throttled_s(cgroup))


def parse_stat(text: str, ticks_hz: int) -> tuple[float, float]:
    """Busy and stolen time, s, of all processors from the text of /proc/stat.

    Raises:
        ValueError: it is no such text.
    """
    name, *counts = text.partition("\n")[0].split() or [""]
    if name != "cpu" or len(counts) < 8:
        raise ValueError("not /proc/stat")
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(count) for count in counts[:8])
    return (user + nice + system + irq + softirq) / ticks_hz, steal / ticks_hz


def _waited_s(tasks: Path) -> float:
    total = 0
    for task in tasks.glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[1])
        except (OSError, ValueError, IndexError):  # the thread has ended
            continue
    return total / _NS


def _throttled_s(cgroup: Path) -> float:
    for path, key, unit in (
        (cgroup / "cpu.stat", "throttled_usec", 1e6),
        (cgroup / "cpu" / "cpu.stat", "throttled_time", _NS),
    ):
        try:
            fields = dict(line.split() for line in path.read_text().splitlines())
            return int(fields[key]) / unit
        except (OSError, ValueError, KeyError):
            continue
    return 0.0


def load_between(before: Counters | None, after: Counters | None, own_s: float | None = None) -> Load | None:
    """What happened in between; None if unknown, or if the time was too short for the system's ticks.

    Args:
        before: at the start.
        after: at the end.
        own_s: processor time of several processes that are all ours; their waiting is then left out, since
            they may wait for one another.
    """
    if before is None or after is None or after.wall_s - before.wall_s < SHORTEST_S:
        return None
    wall_s = after.wall_s - before.wall_s
    own = after.own_s - before.own_s if own_s is None else own_s
    return Load(
        others_cores=round(max(0.0, after.busy_s - before.busy_s - own) / wall_s, 3),
        steal_cores=round(max(0.0, after.steal_s - before.steal_s) / wall_s, 3),
        waited_share=None if own_s is not None else round(_share(before.waited_s, after.waited_s, wall_s), 3),
        throttled_share=round(_share(before.throttled_s, after.throttled_s, wall_s), 3),
    )


def _share(before_s: float, after_s: float, wall_s: float) -> float:
    return max(0.0, after_s - before_s) / wall_s


def why_busy(load: Load | None, cores: int) -> str:
    """Why wall-clock times taken then mean nothing; "" if they do, or nothing is known.

    Args:
        load: as measured.
        cores: that this process may use.
    """
    if load is None:
        return ""
    others = max(LEAST_OTHERS_CORES, MOST_OTHERS_SHARE * cores)
    if load.others_cores > others:
        return f"others used {load.others_cores:.2f} of {cores} cores"
    if load.steal_cores > MOST_STEAL_CORES:
        return f"the hypervisor took {load.steal_cores:.2f} cores"
    if load.throttled_share > MOST_THROTTLED_SHARE:
        return f"the container's limit held it back for {100 * load.throttled_share:.0f} % of the time"
    if (load.waited_share or 0.0) > MOST_WAITED_SHARE:
        return f"it waited for a processor for {100 * (load.waited_share or 0):.0f} % of the time"
    return ""


def cores_here() -> int:
    """Logical processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


ReadCounters = Callable[[], Counters | None]
