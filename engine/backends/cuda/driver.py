"""The only seam to CUDA: what the graphs need of a driver, and of a network that runs inside a graph.

`engine.backends.cuda.cuda_core` implements it on a device; tests implement it in memory. Whoever makes an
object closes it; `close` may be called twice. Every method raises `BackendError` naming the call that failed.
Calls on one driver never overlap, but may come from different threads after `use`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.arrays import U8, Array
from engine.backends.network import DescribedNetwork

# An address is np.uint64, a texture's handle np.uint64, `int` np.int32, `float` np.float32.
KernelArgument = np.uint64 | np.int32 | np.float32


@dataclass(frozen=True)
class DeviceInfo:
    """What the numbers of a run belong to.

    Attributes:
        name: as the driver says, like "NVIDIA H200".
        compute_capability: major and minor, like (9, 0).
        driver_version: major and minor of the newest CUDA that the driver knows, like (13, 0).
        memory_bytes: of the whole device.
    """

    name: str
    compute_capability: tuple[int, int]
    driver_version: tuple[int, int]
    memory_bytes: int

    @property
    def arch(self) -> str:
        """The compiler's name of the architecture, like "sm_90"."""
        major, minor = self.compute_capability
        return f"sm_{major}{minor}"


class Event(Protocol):
    """A point in a stream."""

    def record(self, stream: "Stream") -> None:
        """Mark what `stream` has been given so far."""

    def done(self) -> bool:
        """Whether the device has come past it; true before the first `record`."""

    def wait(self) -> None:
        """Block the calling thread until the device has come past it, without spinning."""

    def ms_since(self, earlier: "Event") -> float:
        """Milliseconds on the device between two events that both are done; 0.5 us fine."""

    def close(self) -> None:
        """Free it."""


class Stream(Protocol):
    """A queue of work, not the default stream."""

    @property
    def handle(self) -> int:
        """The `cudaStream_t`, for libraries."""

    def wait_for(self, event: Event) -> None:
        """Let what comes next wait for `event`, on the device."""

    def synchronize(self) -> None:
        """Block the calling thread until all is done."""

    def close(self) -> None:
        """Free it."""


class Buffer(Protocol):
    """Device memory; zeros at first."""

    @property
    def address(self) -> int:
        """On the device; a multiple of 256."""

    @property
    def size_bytes(self) -> int:
        """How much was asked for."""

    def close(self) -> None:
        """Free it."""


class MappedBuffer(Buffer, Protocol):
    """Pinned host memory that the device reads and writes too; zeros at first."""

    @property
    def host(self) -> U8:
        """[size_bytes] the memory itself; must not be touched after `close`."""


class Texture(Protocol):
    """A half4 picture sampled bilinearly at normalised coordinates, clamped at its edges."""

    @property
    def handle(self) -> int:
        """The `cudaTextureObject_t`."""

    def close(self) -> None:
        """Free it and its memory."""


class Kernel(Protocol):
    """One entry point of a loaded program."""

    @property
    def name(self) -> str:
        """Its `extern "C"` name."""


class Program(Protocol):
    """Our kernels, loaded; the driver's, which unloads it."""

    def kernel(self, name: str) -> Kernel:
        """Find an entry point; good until the driver is closed."""


class Graph(Protocol):
    """What was captured, instantiated; it does not own the memory that it reads and writes."""

    def launch(self, stream: Stream) -> None:
        """Replay it on `stream`."""

    def close(self) -> None:
        """Free it."""


class Driver(Protocol):
    """One device."""

    @property
    def info(self) -> DeviceInfo:
        """Which one."""

    def use(self) -> None:
        """Make the device current in the calling thread."""

    def stream(self) -> Stream:
        """Make a stream that does not wait for the default stream."""

    def event(self) -> Event:
        """Make an event that keeps the time."""

    def buffer(self, size_bytes: int) -> Buffer:
        """Allocate device memory, at least 1 byte."""

    def mapped(self, size_bytes: int) -> MappedBuffer:
        """Allocate pinned host memory, at least 1 byte."""

    def texture(self, pixels: Array) -> Texture:
        """Make a texture of [H, W, 4] float16 pixels, which are copied."""

    def program(self, canvas: np.dtype[np.generic], picture: np.dtype[np.generic]) -> Program:
        """Our kernels for a network with this type of input and output, float16 or float32.

        Compiled for this device and loaded when first asked for.
        """

    def upload(self, buffer: Buffer, array: Array) -> None:
        """Copy `array` to the start of `buffer`; done when it returns. Never inside `capture`."""

    def download(self, buffer: Buffer, out: Array) -> None:
        """Copy the start of `buffer` into the C-contiguous `out`; done when it returns, as is all before it.

        Never inside `capture`.
        """

    def copy(self, stream: Stream, target: int, source: int, size_bytes: int) -> None:
        """Enqueue a copy between addresses of buffers, device or mapped."""

    def launch(
        self, stream: Stream, kernel: Kernel, blocks: int, threads: int, arguments: Sequence[KernelArgument]
    ) -> None:
        """Enqueue `blocks` one-dimensional blocks of `threads` threads."""

    def capture(self, stream: Stream, record: Callable[[], None]) -> Graph:
        """Instantiate and upload what `record` enqueues on `stream`, or on streams that wait for its events.

        Nothing is run. Errors of `record` come out as they are, after the capture was ended.
        """

    def free_bytes(self) -> int:
        """Device memory that nobody has."""

    def close(self) -> None:
        """Let go of the device; what was made on it must be closed before."""


class GraphNetwork(DescribedNetwork, Protocol):
    """A network whose tensors lie on the device at fixed addresses, enqueued on a stream.

    It belongs to one graph. Its weights and scratch memory are allocated when it is made; `enqueue` allocates
    nothing after its first call. All its shapes are static.
    """

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Say where each input and output lies on the device; once, before the first `enqueue`.

        Raises:
            ValueError: a name is missing or unknown.
            BackendError: the library refused.
        """

    def enqueue(self, stream_handle: int) -> None:
        """Enqueue one run; also inside a capture, after it ran once outside.

        Raises:
            BackendError: the library failed; the network must not be used again.
        """

    def close(self) -> None:
        """Free what it has; never while a graph that has it may still be launched."""
