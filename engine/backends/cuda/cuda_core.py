"""The real driver: a CUDA device through NVIDIA's cuda.core, and cuda.bindings for what that lacks.

Both are imported when a device is opened, and not before: they come with the extras `gpu` and `gpu-rtx`.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from engine.arrays import U8, Array
from engine.backends.cuda.compiler import Element, compile_cubin
from engine.backends.cuda.driver import Buffer, DeviceInfo, Event, Graph, Kernel, KernelArgument, Stream
from engine.errors import BackendError, BackendUnavailable

NEEDED = "pip install 'livedub[gpu]'"
_ELEMENTS: dict[str, Element] = {"float16": "__half", "float32": "float"}


class CudaDriver:
    """One CUDA device in this process; see `engine.backends.cuda.driver.Driver`.

    It uses the device's primary context, as TensorRT and torch do, and streams that do not wait for the
    default stream. One driver may serve many graphs.

    Args:
        device: number of the device, as the CUDA driver counts.

    Raises:
        BackendUnavailable: cuda-python, NVIDIA's driver or the device is missing.
    """

    def __init__(self, device: int = 0) -> None:
        try:
            import cuda.core
            from cuda.bindings import driver
            from cuda.core._utils.cuda_utils import CUDAError  # has no public name
        except ImportError as error:
            raise BackendUnavailable(f"the GPU backends need NVIDIA's cuda-python: {NEEDED}") from error
        self._core, self._raw = cuda.core, driver
        # RuntimeError: cuda.core's own checks, and a driver that is not there
        self._errors: tuple[type[Exception], ...] = (CUDAError, RuntimeError)
        self._number, self._programs = device, dict[tuple[str, ...], CudaProgram]()
        try:
            self.use()
            self.info = self._describe()
            self._own = self.stream()
        except BackendError as error:
            reason = str(error).removeprefix("CUDA: ")
            raise BackendUnavailable(
                f"no CUDA device can be used ({reason}): the GPU backends need an NVIDIA GPU and its driver"
            ) from error

    def use(self) -> None:
        """See `Driver.use`."""
        with self.naming("choosing the device"):
            self._device.set_current()

    def stream(self) -> "CudaStream":
        """See `Driver.stream`."""
        options = self._core.StreamOptions(nonblocking=True)
        with self.naming("making a stream"):
            return CudaStream(self, self._device.create_stream(options=options))

    def event(self) -> "CudaEvent":
        """See `Driver.event`."""
        options = self._core.EventOptions(timing_enabled=True, blocking_sync=True)
        with self.naming("making an event"):
            return CudaEvent(self, self._device.create_event(options))

    def buffer(self, size_bytes: int) -> "CudaBuffer":
        """See `Driver.buffer`."""
        own = self._own.core
        with self.naming(f"allocating {size_bytes} bytes on the device"):
            made = CudaBuffer(self, self._device.allocate(size_bytes, stream=own), size_bytes)
            made.core.fill(0, stream=own)
            own.sync()
            return made

    def mapped(self, size_bytes: int) -> "CudaMappedBuffer":
        """See `Driver.mapped`; with unified addresses, as every 64-bit system has, pinned means mapped."""
        with self.naming(f"allocating {size_bytes} bytes of pinned memory"):
            memory = self._core.LegacyPinnedMemoryResource()
            return CudaMappedBuffer(self, memory.allocate(size_bytes), size_bytes)

    def texture(self, pixels: Array) -> "CudaTexture":
        """See `Driver.texture`."""
        from cuda.core import texture

        if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.float16:
            raise ValueError(f"a texture has [H, W, 4] float16 pixels, got {pixels.shape} {pixels.dtype}")
        height, width, channels = pixels.shape
        memory = texture.OpaqueArrayOptions(shape=(width, height), format="float16", num_channels=channels)
        sampling = texture.TextureObjectOptions(
            address_mode="clamp", filter_mode="linear", normalized_coords=True
        )
        with self.naming("making a texture"):
            array = self._device.create_opaque_array(memory)
            array.copy_from(np.ascontiguousarray(pixels), stream=self._own.core)
            self._own.core.sync()
            resource = texture.ResourceDescriptor.from_opaque_array(array)
            made = self._device.create_texture_object(resource=resource, options=sampling)
            return CudaTexture(self, (made, array))

    def program(self, canvas: np.dtype[np.generic], picture: np.dtype[np.generic]) -> "CudaProgram":
        """See `Driver.program`."""
        key = (canvas.name, picture.name)
        if key not in self._programs:
            cubin = compile_cubin(self.info.arch, canvas=_ELEMENTS[key[0]], picture=_ELEMENTS[key[1]])
            with self.naming("loading the kernels"):
                self._programs[key] = CudaProgram(self, self._core.ObjectCode.from_cubin(cubin.code))
        return self._programs[key]

    def upload(self, buffer: Buffer, array: Array) -> None:
        """See `Driver.upload`."""
        held = np.ascontiguousarray(array)
        _check_fits(buffer, held)
        own = self._own  # not the default stream, which may be in use while another thread captures
        answer = self._raw.cuMemcpyHtoDAsync(buffer.address, held.ctypes.data, held.nbytes, own.handle)
        self._checked("copying to the device", answer)
        own.synchronize()

    def download(self, buffer: Buffer, out: Array) -> None:
        """See `Driver.download`."""
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise ValueError("a download needs an array that is C-contiguous and writeable")
        _check_fits(buffer, out)
        self._synchronize()
        answer = self._raw.cuMemcpyDtoH(out.ctypes.data, buffer.address, out.nbytes)
        self._checked("copying from the device", answer)

    def copy(self, stream: Stream, target: int, source: int, size_bytes: int) -> None:
        """See `Driver.copy`."""
        answer = self._raw.cuMemcpyAsync(target, source, size_bytes, stream.handle)
        self._checked("copying on the device", answer)

    def launch(
        self, stream: Stream, kernel: Kernel, blocks: int, threads: int, arguments: Sequence[KernelArgument]
    ) -> None:
        """See `Driver.launch`."""
        config = self._core.LaunchConfig(grid=blocks, block=threads)
        with self.naming(f"launching {kernel.name}"):
            self._core.launch(_core_of(stream), config, _core_of(kernel), *arguments)

    def capture(self, stream: Stream, record: Callable[[], None]) -> Graph:
        """See `Driver.capture`; thread-local, so that other threads may allocate meanwhile."""
        with self.naming("beginning a capture"):
            builder = _core_of(stream).create_graph_builder()
            builder.begin_building("thread_local")
        try:
            record()
            with self.naming("making a graph of what was captured"):
                graph = CudaGraph(self, builder.end_building().complete())
        finally:
            with suppress(*self._errors):  # a capture that failed says so again when it is ended
                builder.close()
        try:
            with self.naming("uploading a graph"):
                graph.core.upload(_core_of(stream))
        except BackendError:
            graph.close()
            raise
        return graph

    def free_bytes(self) -> int:
        """See `Driver.free_bytes`."""
        free, _ = self._checked("asking for free memory", self._raw.cuMemGetInfo())
        return int(free)

    def close(self) -> None:
        """See `Driver.close`."""
        self._programs.clear()
        self._own.close()

    @contextmanager
    def naming(self, doing: str) -> Iterator[None]:
        """Turn what CUDA raises into a BackendError that says what was being done."""
        try:
            yield
        except self._errors as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise BackendError(f"CUDA: {doing} failed: {lines[0]}") from error

    def _checked(self, doing: str, answer: tuple[Any, ...]) -> tuple[Any, ...]:
        """What a call of cuda.bindings gave beside its status."""
        status, *values = answer
        if status != self._raw.CUresult.CUDA_SUCCESS:
            raise BackendError(f"CUDA: {doing} failed: {status.name}")
        return tuple(values)

    @property
    def _device(self) -> Any:
        return self._core.Device(self._number)  # it has one object for each thread

    def _synchronize(self) -> None:
        self._checked("waiting for the device", self._raw.cuCtxSynchronize())

    def _describe(self) -> DeviceInfo:
        with self.naming("asking for the device's name"):
            device = self._device
            major, minor = device.compute_capability
            name = str(device.name)
        (version,) = self._checked("asking for the driver's version", self._raw.cuDriverGetVersion())
        _, memory_bytes = self._checked("asking for the device's memory", self._raw.cuMemGetInfo())
        driver_version = (version // 1000, version % 1000 // 10)
        return DeviceInfo(name, (int(major), int(minor)), driver_version, int(memory_bytes))


class _Held:
    """What cuda.core made, until it is closed."""

    what = "something"

    def __init__(self, driver: CudaDriver, core: Any) -> None:
        self._driver, self._core = driver, core

    @property
    def core(self) -> Any:
        """The object of cuda.core."""
        if self._core is None:
            raise BackendError(f"the {self.what} is closed")
        return self._core

    def close(self) -> None:
        """Free it; the second time nothing."""
        core, self._core = self._core, None
        if core is not None:
            with self._driver.naming(f"freeing a {self.what}"):
                self._free(core)

    def _free(self, core: Any) -> None:
        core.close()


class CudaStream(_Held):
    """See `driver.Stream`."""

    what = "stream"

    @property
    def handle(self) -> int:
        """See `driver.Stream.handle`."""
        return int(self.core.handle)

    def wait_for(self, event: Event) -> None:
        """See `driver.Stream.wait_for`."""
        with self._driver.naming("waiting for an event in a stream"):
            self.core.wait(_core_of(event))

    def synchronize(self) -> None:
        """See `driver.Stream.synchronize`."""
        with self._driver.naming("waiting for a stream"):
            self.core.sync()


class CudaEvent(_Held):
    """See `driver.Event`."""

    what = "event"

    def record(self, stream: Stream) -> None:
        """See `driver.Event.record`."""
        with self._driver.naming("recording an event"):
            _core_of(stream).record(self.core)

    def done(self) -> bool:
        """See `driver.Event.done`."""
        with self._driver.naming("asking for an event"):
            return bool(self.core.is_done)

    def wait(self) -> None:
        """See `driver.Event.wait`."""
        with self._driver.naming("waiting for an event"):
            self.core.sync()

    def ms_since(self, earlier: Event) -> float:
        """See `driver.Event.ms_since`."""
        with self._driver.naming("reading an event's time"):
            return float(self.core - _core_of(earlier))


class CudaBuffer(_Held):
    """See `driver.Buffer`."""

    what = "buffer"

    def __init__(self, driver: CudaDriver, core: Any, size_bytes: int) -> None:
        super().__init__(driver, core)
        self.address, self.size_bytes = int(core.handle), size_bytes


class CudaMappedBuffer(CudaBuffer):
    """See `driver.MappedBuffer`."""

    what = "mapped buffer"

    def __init__(self, driver: CudaDriver, core: Any, size_bytes: int) -> None:
        super().__init__(driver, core, size_bytes)
        self.host: U8 = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(self.address))
        self.host[:] = 0


class CudaTexture(_Held):
    """See `driver.Texture`; `core` is the texture object and the array behind it."""

    what = "texture"

    def __init__(self, driver: CudaDriver, core: Any) -> None:
        super().__init__(driver, core)
        self.handle = int(core[0].handle)

    def _free(self, core: Any) -> None:
        for thing in core:
            thing.close()


class CudaGraph(_Held):
    """See `driver.Graph`."""

    what = "graph"

    def launch(self, stream: Stream) -> None:
        """See `driver.Graph.launch`."""
        with self._driver.naming("launching a graph"):
            self.core.launch(_core_of(stream))


class CudaKernel(_Held):
    """See `driver.Kernel`."""

    what = "kernel"

    def __init__(self, driver: CudaDriver, core: Any, name: str) -> None:
        super().__init__(driver, core)
        self.name = name


class CudaProgram:
    """See `driver.Program`; its module is unloaded with its last kernel."""

    def __init__(self, driver: CudaDriver, code: Any) -> None:
        self._driver, self._code = driver, code

    def kernel(self, name: str) -> CudaKernel:
        """See `driver.Program.kernel`."""
        with self._driver.naming(f"loading the kernel {name}"):
            return CudaKernel(self._driver, self._code.get_kernel(name), name)


def _core_of(thing: object) -> Any:
    if not isinstance(thing, _Held):
        raise TypeError(f"{thing!r} was not made by CudaDriver")
    return thing.core


def _check_fits(buffer: Buffer, array: Array) -> None:
    if array.nbytes > buffer.size_bytes:
        raise ValueError(f"{array.nbytes} bytes do not fit a buffer of {buffer.size_bytes}")
