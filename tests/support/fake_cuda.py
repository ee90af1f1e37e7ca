"""A CUDA device in memory: it records every call, keeps CUDA's rules, and can run the kernels on the CPU.

Work is lazy, as on a device: nothing enqueued has happened until somebody waits for it. What the rules forbid
(an allocation, upload, download or wait while a stream is captured; memory or a network freed while a graph
has it; branches of a capture that nobody joined) is an entry of `violations` and a `BackendError`.
"""

import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.arrays import U8, Array
from engine.backends.cuda.driver import Buffer, DeviceInfo, Event, Kernel, KernelArgument, Stream
from engine.errors import BackendError
from tests.support.host_cuda import HostKernels, HostTexture

MEMORY_BYTES = 1 << 32
Fails = Callable[[int, "Call"], bool]
FREE, MADE = "free", "make"
NOT_IN_A_CAPTURE = (MADE, FREE, "upload", "download", "synchronize", "event wait", "graph launch")


@dataclass(eq=False)
class Operation:
    """Something that a stream or a graph does."""

    name: str
    act: Callable[[], None]
    uses: frozenset[object] = frozenset()  # buffers and networks
    done: bool = False

    def run(self) -> None:
        self.act()
        self.done = True


@dataclass(frozen=True)
class Call:
    """A call of the driver: its kind, and of what."""

    kind: str
    what: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.what}".strip()


class FakeObject:
    """What was made on the device."""

    def __init__(self, driver: "FakeDriver", kind: str, size_bytes: int = 0) -> None:
        self.driver, self.kind, self.size_bytes, self.closed = driver, kind, size_bytes, False
        driver.call(MADE, kind)
        driver.made.append(self)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.driver.check_unused(self)
        self.driver.call(FREE, self.kind)


class FakeBuffer(FakeObject):
    def __init__(self, driver: "FakeDriver", kind: str, size_bytes: int) -> None:
        super().__init__(driver, kind, size_bytes)
        memory = np.zeros(size_bytes + 256, np.uint8)
        start = -memory.ctypes.data % 256
        self.memory: U8 = memory[start : start + size_bytes]

    @property
    def address(self) -> int:
        return int(self.memory.ctypes.data)

    @property
    def host(self) -> U8:
        return self.memory


class FakeTexture(FakeObject):
    def __init__(self, driver: "FakeDriver", pixels: Array) -> None:
        super().__init__(driver, "texture", pixels.nbytes)
        self.pixels = HostTexture(pixels)

    @property
    def handle(self) -> int:
        return int(self.pixels.handle)


class FakeStream(FakeObject):
    def __init__(self, driver: "FakeDriver") -> None:
        super().__init__(driver, "stream")
        self.handle = 0x5000 + len(driver.made)
        self.queue: deque[Operation] = deque()

    def wait_for(self, event: Event) -> None:
        assert isinstance(event, FakeEvent)
        self.driver.call("wait for", event.kind)
        capture = self.driver.capturing
        if capture is not None and event.capture is capture:
            capture.join(self, event)
        elif capture is not None and self in capture.last:
            self.driver.forbidden("a captured stream waits for work outside of the capture")
        else:
            self.driver.enqueue(self, Operation("wait for", event.drain))

    def synchronize(self) -> None:
        self.driver.call("synchronize")
        self.drain(None)

    def drain(self, until: Operation | None) -> None:
        while self.queue and not (until is not None and until.done):
            self.queue.popleft().run()


class FakeEvent(FakeObject):
    def __init__(self, driver: "FakeDriver") -> None:
        super().__init__(driver, "event")
        self.marker: Operation | None = None
        self.stream: FakeStream | None = None
        self.capture: Capture | None = None

    def record(self, stream: Stream) -> None:
        assert isinstance(stream, FakeStream)
        self.driver.call("record")
        self.stream, self.marker = stream, Operation("record", lambda: None)
        self.driver.enqueue(stream, self.marker)
        capture = self.driver.capturing
        self.capture = capture if capture is not None and stream in capture.last else None

    def done(self) -> bool:
        return self.marker is None or self.marker.done

    def drain(self) -> None:
        if self.stream is not None and self.capture is None:
            self.stream.drain(self.marker)

    def wait(self) -> None:
        self.driver.call("event wait")
        self.drain()

    def ms_since(self, earlier: Event) -> float:
        if not (self.done() and earlier.done()):
            raise BackendError("CUDA: an event's time was asked for before it was there")
        return 0.25


class Capture:
    """What is being recorded, and where each stream in it stands."""

    def __init__(self, origin: FakeStream) -> None:
        self.origin = origin
        self.operations: list[Operation] = []
        self.last: dict[FakeStream, Operation | None] = {origin: None}
        self.joined: set[FakeStream] = {origin}

    def add(self, stream: FakeStream, operation: Operation) -> None:
        self.operations.append(operation)
        self.last[stream] = operation
        if stream is not self.origin:
            self.joined.discard(stream)

    def join(self, stream: FakeStream, event: FakeEvent) -> None:
        """`stream` waits for an event of this capture: it belongs to it now; the event's stream may end."""
        self.last.setdefault(stream, None)
        assert event.stream is not None
        if self.last[event.stream] is event.marker:
            self.joined.add(event.stream)


class FakeGraph(FakeObject):
    def __init__(self, driver: "FakeDriver", operations: list[Operation]) -> None:
        super().__init__(driver, "graph")
        self.operations = operations
        self.uses = frozenset().union(*(operation.uses for operation in operations))

    def launch(self, stream: Stream) -> None:
        assert isinstance(stream, FakeStream)
        self.driver.call("graph launch")
        if self.closed:
            self.driver.forbidden("a graph that is closed is launched")
        self.driver.enqueue(stream, Operation("graph", self._run, self.uses))

    def _run(self) -> None:
        for operation in self.operations:
            operation.run()


@dataclass(frozen=True)
class FakeKernel:
    name: str


@dataclass(frozen=True)
class FakeProgram:
    driver: "FakeDriver"

    def kernel(self, name: str) -> FakeKernel:
        self.driver.call("kernel", name)
        return FakeKernel(name)


def failing_at(number: int) -> Fails:
    """Let the call of this number fail."""
    return lambda at, call: at == number


def failing_from(number: int, kind: str = "") -> Fails:
    """Let every call from this number on fail, if it is of this kind."""
    return lambda at, call: at >= number and kind in ("", call.kind)


@dataclass(eq=False)
class FakeDriver:
    """See the module.

    Attributes:
        kernels: runs them, if given; else launches are only recorded.
        fail: says of each call, by its number and name, whether it fails.
        calls: all so far; `log` is their text.
        made: all that was ever made.
        violations: which rules were broken.
    """

    kernels: HostKernels | None = None
    fail: Fails = lambda number, call: False
    calls: list[Call] = field(default_factory=list)
    made: list[FakeObject] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    capturing: Capture | None = None

    @property
    def info(self) -> DeviceInfo:
        return DeviceInfo("Imagined", (9, 0), (13, 0), MEMORY_BYTES)

    @property
    def log(self) -> list[str]:
        return [str(call) for call in self.calls]

    @property
    def open(self) -> list[FakeObject]:
        """What was made and not closed."""
        return [thing for thing in self.made if not thing.closed]

    def call(self, kind: str, what: str = "") -> None:
        call = Call(kind, what)
        self.calls.append(call)
        if self.capturing is not None and kind in NOT_IN_A_CAPTURE:
            self.forbidden(f"{call} while a stream is captured")
        if self.fail(len(self.calls) - 1, call):
            raise BackendError(f"CUDA: {call} failed")

    def forbidden(self, what: str) -> None:
        self.violations.append(what)
        raise BackendError(f"CUDA: {what}")

    def check_unused(self, thing: object) -> None:
        for graph in self.made:
            if isinstance(graph, FakeGraph) and not graph.closed and thing in graph.uses:
                self.violations.append("something is freed that a graph has")
        for stream in self.made:
            if isinstance(stream, FakeStream) and any(thing in work.uses for work in stream.queue):
                self.violations.append("something is freed that the device works with")

    def enqueue(self, stream: FakeStream, operation: Operation) -> None:
        if stream.closed:
            self.forbidden("work for a stream that is closed")
        if self.capturing is not None and stream in self.capturing.last:
            self.capturing.add(stream, operation)
        else:
            stream.queue.append(operation)

    def stream_of(self, handle: int) -> FakeStream:
        return next(s for s in self.made if isinstance(s, FakeStream) and s.handle == handle)

    def buffers_at(self, addresses: Iterable[int]) -> frozenset[object]:
        """The buffers and textures in which these addresses lie."""
        found: set[object] = set()
        for thing in self.made:
            if isinstance(thing, FakeBuffer):
                end = thing.address + thing.size_bytes
                if not thing.closed and any(thing.address <= a < end for a in addresses):
                    found.add(thing)
            elif isinstance(thing, FakeTexture) and thing.handle in addresses:
                found.add(thing)
        return frozenset(found)

    def use(self) -> None:
        self.call("use")

    def stream(self) -> FakeStream:
        return FakeStream(self)

    def event(self) -> FakeEvent:
        return FakeEvent(self)

    def buffer(self, size_bytes: int) -> FakeBuffer:
        return FakeBuffer(self, "buffer", size_bytes)

    def mapped(self, size_bytes: int) -> FakeBuffer:
        return FakeBuffer(self, "mapped", size_bytes)

    def texture(self, pixels: Array) -> FakeTexture:
        return FakeTexture(self, pixels)

    def program(self, canvas: np.dtype[np.generic], picture: np.dtype[np.generic]) -> FakeProgram:
        self.call("program", f"{canvas} {picture}")
        return FakeProgram(self)

    def upload(self, buffer: Buffer, array: Array) -> None:
        assert isinstance(buffer, FakeBuffer)
        self.call("upload")
        buffer.memory[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def download(self, buffer: Buffer, out: Array) -> None:
        assert isinstance(buffer, FakeBuffer)
        self.call("download")
        for thing in self.made:
            if isinstance(thing, FakeStream):
                thing.drain(None)
        out.reshape(-1).view(np.uint8)[:] = buffer.memory[: out.nbytes]

    def copy(self, stream: Stream, target: int, source: int, size_bytes: int) -> None:
        assert isinstance(stream, FakeStream)
        self.call("copy")
        uses = self.buffers_at((target, source))
        if len(uses) != len(self.buffers_at((target + size_bytes - 1, source + size_bytes - 1)) & uses):
            self.forbidden("a copy leaves its buffer")
        self.enqueue(stream, Operation("copy", lambda: _copy(target, source, size_bytes), uses))

    def launch(
        self, stream: Stream, kernel: Kernel, blocks: int, threads: int, arguments: Sequence[KernelArgument]
    ) -> None:
        assert isinstance(stream, FakeStream)
        self.call("launch", kernel.name)
        if not 0 < threads <= 1024 or blocks <= 0:
            self.forbidden(f"a launch of {blocks} blocks of {threads} threads")
        self._check_types(kernel.name, arguments)
        uses = self.buffers_at([int(value) for value in arguments if isinstance(value, np.uint64)])

        def run() -> None:
            if self.kernels is not None:
                _run_kernel(self.kernels, kernel.name, blocks, threads, arguments)

        self.enqueue(stream, Operation(kernel.name, run, uses))

    def capture(self, stream: Stream, record: Callable[[], None]) -> FakeGraph:
        assert isinstance(stream, FakeStream)
        self.call("begin capture")
        self.capturing = capture = Capture(stream)
        try:
            record()
            self.call("end capture")
        finally:
            self.capturing = None
        if capture.last.keys() != capture.joined:
            self.forbidden("a branch of the capture was not joined")
        return FakeGraph(self, capture.operations)

    def free_bytes(self) -> int:
        return MEMORY_BYTES - sum(thing.size_bytes for thing in self.open)

    def close(self) -> None:
        self.call("close")

    def _check_types(self, name: str, arguments: Sequence[KernelArgument]) -> None:
        if self.kernels is None:
            return
        wanted = ["u8" if kind.endswith("*") else kind for kind in self.kernels.signatures[name]]
        given = [f"{value.dtype.kind}{value.dtype.itemsize}" for value in arguments]
        if wanted != given:
            self.forbidden(f"{name} wants {wanted}, got {given}")


def _copy(target: int, source: int, size_bytes: int) -> None:
    ctypes.memmove(target, source, size_bytes)


def _run_kernel(
    kernels: HostKernels, name: str, blocks: int, threads: int, arguments: Sequence[KernelArgument]
) -> None:
    """As `HostKernels.launch`, with addresses for arrays."""
    kernels.launch_held(name, blocks, threads, [np.atleast_1d(value) for value in arguments])
