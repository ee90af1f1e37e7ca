"""One stream in a process of its own, told over pipes: `python -m benchmarks.stream ORDER`.

Answers are lines of JSON on stdout: first `Ready`, then a `Ran` for each `Go` on stdin; it ends with stdin.
All times are of the monotonic clock, which processes share.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from benchmarks.bodies import Stream
from engine.backends import WantedPrecision
from engine.errors import BackendError

_FOLDER = Path(__file__).parents[1]
_NS_PER_MS = 1e6
END_S = 20.0
Told = TypeVar("Told", bound=msgspec.Struct)


class Order(msgspec.Struct, frozen=True):
    """What a child shall be.

    Attributes:
        backend: of its painter.
        precision: of its painter.
        seed: of its actor.
        steady: frames to run back to back before it is ready.
        spawned_ns: when it was started.
    """

    backend: str
    precision: str
    seed: int
    steady: int
    spawned_ns: int


class Ready(msgspec.Struct, frozen=True):
    """It has dubbed frames.

    Attributes:
        name: of the painter.
        tracking: whether the tracker is there.
        wall_ms: of its phases by name: from the start to all imported, to open, and the first frame.
        cpu_ms: likewise; of the process.
        steady_ms: of each frame after the first, back to back.
        spent_s: CPU time so far.
    """

    name: str
    tracking: bool
    wall_ms: dict[str, float]
    cpu_ms: dict[str, float]
    steady_ms: list[float]
    spent_s: float


class Go(msgspec.Struct, frozen=True):
    """Frames arrive from `start_ns` on."""

    start_ns: int
    frames: int


class Ran(msgspec.Struct, frozen=True):
    """As `benchmarks.bodies.StreamRun`."""

    latency_ms: list[float]
    at_s: list[float]
    cpu_s: float
    wall_s: float
    dubbed: int


class Child:
    """The other end of one process; a context manager that ends it."""

    def __init__(self, backend: str, precision: str, seed: int, steady: int) -> None:
        order = Order(backend, precision, seed, steady, time.monotonic_ns())
        command = [sys.executable, "-m", "benchmarks.stream", msgspec.json.encode(order).decode()]
        self._process = subprocess.Popen(
            command, cwd=_FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def ready(self) -> Ready:
        """Wait until it has dubbed frames.

        Raises:
            BackendError: it has ended instead.
        """
        return self._hear(Ready)

    def go(self, order: Go) -> None:
        """Start a run; `ran` is its answer."""
        if self._process.stdin is not None:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()

    def ran(self) -> Ran:
        """Wait for what came of a run.

        Raises:
            BackendError: it has ended instead.
        """
        return self._hear(Ran)

    def _hear(self, kind: type[Told]) -> Told:
        line = self._process.stdout.readline() if self._process.stdout is not None else b""
        if not line:
            _, said = self._process.communicate()
            last = said.decode(errors="replace").strip().splitlines() or ["nothing was said"]
            raise BackendError(f"a stream's process ended: {last[-1][:300]}")
        return msgspec.json.decode(line, type=kind)


def main() -> None:
    """Be a child, as the order on the command line says."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    phases = _Phases(order.spawned_ns)
    phases.mark("import")
    stream = Stream(order.backend, cast(WantedPrecision, order.precision), order.seed)
    tracking = stream.tracker is not None
    phases.mark("open the actor")
    stream.frame()
    phases.mark("first frame")
    steady = []
    for _ in range(order.steady):
        began_ns = time.monotonic_ns()
        stream.frame()
        steady.append((time.monotonic_ns() - began_ns) / _NS_PER_MS)
    spent_s = time.process_time()
    _say(Ready(stream.painter.name, tracking, phases.wall_ms, phases.cpu_ms, steady, spent_s))
    for line in sys.stdin.buffer:
        go = msgspec.json.decode(line, type=Go)
        done = stream.run(go.start_ns, go.frames)
        _say(Ran(done.latency_ms, done.at_s, done.cpu_s, done.wall_s, done.dubbed))


class _Phases:
    def __init__(self, start_ns: int) -> None:
        self._wall_ns, self._cpu_ns = start_ns, 0
        self.wall_ms: dict[str, float] = {}
        self.cpu_ms: dict[str, float] = {}

    def mark(self, name: str) -> None:
        wall_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
        self.wall_ms[name] = (wall_ns - self._wall_ns) / _NS_PER_MS
        self.cpu_ms[name] = (cpu_ns - self._cpu_ns) / _NS_PER_MS
        self._wall_ns, self._cpu_ns = wall_ns, cpu_ns


def _say(what: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
