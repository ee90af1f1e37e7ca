"""Torch on an NVIDIA GPU: the fallback where TensorRT does not run, from the same graph, in the same frame.

Torch keeps its own memory. A capture that it knows nothing of would replay on memory that it has given to
somebody else meanwhile; therefore `capturing` makes a driver whose captures are torch's. This is the only
module of the engine that imports torch.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import MappingProxyType, ModuleType
from typing import Any, cast

import numpy as np

from engine.arrays import Array
from engine.backends.cuda.driver import Driver, Graph, Stream
from engine.backends.graph import Graph as OnnxGraph
from engine.backends.graph import describe
from engine.backends.network import CheckedNetwork, Precision, TensorSpec, library_errors
from engine.backends.torch_graph import Tensor, TorchGraph
from engine.errors import BackendError, BackendUnavailable

NAME = "cuda-torch"
PRECISIONS: tuple[Precision, ...] = ("f16", "f32")
CUDA = "cuda"
_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, KeyError)  # NotImplementedError is a RuntimeError
_HALF = np.dtype(np.float16)


def import_torch() -> ModuleType:
    """Import the library.

    Raises:
        BackendUnavailable: it cannot be imported.
    """
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailable(f"backend '{NAME}' needs: pip install torch, built for CUDA") from error
    return torch


def version() -> str:
    """Version of the library.

    Raises:
        BackendUnavailable: it cannot be imported, or it sees no GPU.
    """
    return str(_torch_on(CUDA).__version__)


def _torch_on(device: str) -> ModuleType:
    torch = import_torch()
    if device == CUDA and not torch.cuda.is_available():
        raise BackendUnavailable(f"backend '{NAME}' needs an NVIDIA GPU and a torch that was built for CUDA")
    return torch


class CudaTorchGraphNetwork:
    """A graph on a torch device, between addresses; see `engine.backends.cuda.driver.GraphNetwork`.

    Args:
        onnx: a serialized float32 graph; axes that it leaves open are 1 long.
        precision: of all floats, the tensors' at the addresses too; one of PRECISIONS.
        device: "cuda", or "cpu", whose streams are of no meaning.

    Raises:
        BackendUnavailable: torch is missing or sees no GPU, or has not this precision.
        BackendError: torch refused the graph.
    """

    name = NAME

    def __init__(self, onnx: bytes, precision: Precision, device: str = CUDA) -> None:
        self._torch = torch = _torch_on(device)
        _check(precision)
        self.precision: Precision = precision
        self._device = device
        described = describe(onnx)
        self.inputs = MappingProxyType({spec.name: _static(spec, precision) for spec in described.inputs})
        self.outputs = MappingProxyType({spec.name: _static(spec, precision) for spec in described.outputs})
        with library_errors(NAME, "opening a graph", _ERRORS):
            self._graph: TorchGraph | None = TorchGraph(torch, onnx, precision, device)
        self._tensors: dict[str, Tensor] = {}
        self._streams: dict[int, Any] = {}

    def bind(self, addresses: Mapping[str, int]) -> None:
        """See `GraphNetwork.bind`."""
        specs = {**self.inputs, **self.outputs}
        if addresses.keys() != specs.keys():
            raise ValueError(f"the network wants addresses of {sorted(specs)}, got {sorted(addresses)}")
        with library_errors(NAME, "taking the addresses", _ERRORS):
            self._tensors = {name: self._at(address, specs[name]) for name, address in addresses.items()}

    def enqueue(self, stream_handle: int) -> None:
        """See `GraphNetwork.enqueue`."""
        if self._graph is None:
            raise BackendError(f"the network on {NAME} is closed")
        with library_errors(NAME, "running", _ERRORS), self._on(stream_handle):
            results = self._graph.run({name: self._tensors[name] for name in self.inputs})
            for name, result in zip(self.outputs, results, strict=True):
                self._tensors[name].copy_(result)

    def close(self) -> None:
        """See `GraphNetwork.close`."""
        if self._graph is not None:
            self._graph = None
            self._tensors.clear()
            if self._device == CUDA:
                self._torch.cuda.empty_cache()

    def _on(self, stream_handle: int) -> AbstractContextManager[Any]:
        if self._device != CUDA:
            return nullcontext()
        if stream_handle not in self._streams:
            self._streams[stream_handle] = self._torch.cuda.ExternalStream(stream_handle)
        return cast(AbstractContextManager[Any], self._torch.cuda.stream(self._streams[stream_handle]))

    def _at(self, address: int, spec: TensorSpec) -> Tensor:
        """The tensor in somebody else's memory."""
        shape = tuple(length or 1 for length in spec.shape)
        if self._device == CUDA:
            return self._torch.as_tensor(_Memory(address, shape, spec.dtype), device=CUDA)
        size_bytes = int(np.prod(shape)) * spec.dtype.itemsize
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))
        return self._torch.from_numpy(memory.view(spec.dtype).reshape(shape))


class _Memory:
    """Device memory as torch takes it over, without a copy."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self.__cuda_array_interface__ = {
            "data": (address, False),
            "shape": shape,
            "strides": None,
            "typestr": dtype.str,
            "version": 3,
        }


def open_graph_network(onnx: bytes, precision: Precision, driver: Driver) -> CudaTorchGraphNetwork:
    """A network for one CUDA graph, on the driver's device; capture it with `capturing(driver)`.

    Args:
        onnx: a serialized float32 graph.
        precision: of all floats; one of PRECISIONS.
        driver: of the device; the caller's.

    Raises:
        BackendUnavailable, BackendError: as for `CudaTorchGraphNetwork`.
    """
    driver.use()  # torch takes the context that is current, the device's primary one
    return CudaTorchGraphNetwork(onnx, precision)


def capturing(driver: Driver, torch: ModuleType | None = None) -> Driver:
    """The same driver, with captures in which torch may work.

    Args:
        driver: of the device; it stays the caller's, and closing the result closes it.
        torch: the library; None imports it.

    Raises:
        BackendUnavailable: torch is missing.
    """
    return cast(Driver, _TorchDriver(driver, torch or import_torch()))


class _TorchDriver:
    """A driver whose captures are torch's; see `capturing`."""

    def __init__(self, driver: Driver, torch: ModuleType) -> None:
        self._driver, self._torch = driver, torch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def capture(self, stream: Stream, record: Callable[[], None]) -> Graph:
        """See `Driver.capture`; thread-local, so that other threads may allocate meanwhile."""
        cuda, failures = self._torch.cuda, list[BackendError]()

        def noting() -> None:
            try:
                record()
            except BackendError as error:
                failures.append(error)
                raise

        try:
            with library_errors(NAME, "capturing a graph", (RuntimeError,)):
                external, graph = cuda.ExternalStream(stream.handle), cuda.CUDAGraph()
                with cuda.graph(graph, stream=external, capture_error_mode="thread_local"):
                    noting()
        except BackendError as error:  # ending a capture that failed fails too, and says less
            if failures:
                raise failures[0] from error
            raise
        return _TorchGraphExec(cuda, graph)


class _TorchGraphExec:
    """A captured graph and torch's memory in it."""

    def __init__(self, cuda: Any, graph: Any) -> None:
        self._cuda, self._graph = cuda, graph
        self._streams: dict[int, Any] = {}

    def launch(self, stream: Stream) -> None:
        """See `Graph.launch`."""
        if self._graph is None:
            raise BackendError("the graph is closed")
        if stream.handle not in self._streams:
            self._streams[stream.handle] = self._cuda.ExternalStream(stream.handle)
        on = self._cuda.stream(self._streams[stream.handle])
        with library_errors(NAME, "launching a graph", (RuntimeError,)), on:
            self._graph.replay()

    def close(self) -> None:
        """See `Graph.close`."""
        graph, self._graph = self._graph, None
        if graph is not None:
            with library_errors(NAME, "freeing a graph", (RuntimeError,)):
                graph.reset()


class CudaTorchNetwork(CheckedNetwork):
    """A graph on torch, from host arrays to host arrays: for comparisons, not for speed.

    Its tensors are float32 as the graph's, whatever it computes in.

    Args:
        graph: a float32 graph.
        threads: of no meaning on a GPU.
        precision: one of PRECISIONS.
        device: of torch.

    Raises:
        BackendUnavailable, BackendError: as for `CudaTorchGraphNetwork`.
    """

    def __init__(self, graph: OnnxGraph, threads: int, precision: Precision, *, device: str = CUDA) -> None:
        torch = _torch_on(device)
        _check(precision)
        super().__init__(NAME, precision, graph.inputs, graph.outputs)
        with library_errors(NAME, "opening a graph", _ERRORS):
            self._graph = TorchGraph(torch, graph.model, precision, device)

    def _infer(self, feeds: dict[str, Array]) -> Sequence[Array]:
        with library_errors(NAME, "running", _ERRORS):
            results = self._graph.run({name: self._graph.tensor(array) for name, array in feeds.items()})
            return [
                result.cpu().numpy().astype(spec.dtype)
                for spec, result in zip(self.outputs.values(), results, strict=True)
            ]


def _check(precision: Precision) -> None:
    if precision not in PRECISIONS:
        raise BackendUnavailable(f"backend '{NAME}' offers {' and '.join(PRECISIONS)}, not {precision}")


def _static(spec: TensorSpec, precision: Precision) -> TensorSpec:
    floats = np.issubdtype(spec.dtype, np.floating)
    dtype = _HALF if floats and precision == "f16" else spec.dtype
    return replace(spec, shape=tuple(length or 1 for length in spec.shape), dtype=dtype, symbols=())
