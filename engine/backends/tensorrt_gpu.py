"""TensorRT on an NVIDIA GPU: engines that `livedub export` built, run from addresses that are set once.

A `TensorRtEngine` holds the weights of one graph on a device; each `TensorRtGraphNetwork` made of it runs in
a CUDA graph of its own, with scratch memory from the driver, so that TensorRT itself allocates nothing while
frames are drawn. `TensorRtNetwork` is the same for arrays in host memory: for comparisons, not for speed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from engine.arrays import Array
from engine.backends.cuda.driver import Buffer, Driver, GraphNetwork, Stream
from engine.backends.engine_cache import EngineTensor, StoredEngine, find_engine
from engine.backends.graph import Graph
from engine.backends.network import CheckedNetwork, Precision, TensorSpec
from engine.backends.tensorrt_module import NAME, Refused, TensorRt, load_tensorrt
from engine.errors import BackendError


def version() -> str:
    """Flavour and version of the library.

    Raises:
        BackendUnavailable: it is not installed, or there is no GPU.
    """
    open_driver().close()  # the cheaper question first: the library has 230 MB
    library = load_tensorrt()
    return f"{library.version} ({library.flavour})"


def open_driver() -> Driver:
    """The first CUDA device.

    Raises:
        BackendUnavailable: there is none, or what is needed to use it is not installed.
    """
    from engine.backends.cuda.cuda_core import CudaDriver

    return CudaDriver()


class TensorRtEngine:
    """One engine on one device. Its networks must be closed before it.

    Args:
        stored: from the cache.
        driver: of the device that it was built for; the caller's.
        library: what runs it.

    Raises:
        BackendError: TensorRT refuses the engine, or it is not what the cache says.
    """

    def __init__(self, stored: StoredEngine, driver: Driver, library: TensorRt) -> None:
        self.precision, self._driver, self._library = stored.header.key.precision, driver, library
        self.inputs = _specs(stored.header.inputs)
        self.outputs = _specs(stored.header.outputs)
        driver.use()
        trt = library.trt
        with library.refusing("loading an engine"):
            self._runtime = trt.Runtime(library.logger)
            self._engine = self._runtime.deserialize_cuda_engine(stored.plan)
            if self._engine is None:
                raise Refused
            self._check_tensors()
            self._scratch_bytes = int(self._engine.device_memory_size_v2)

    @classmethod
    def open(cls, onnx: bytes, precision: Precision, driver: Driver) -> "TensorRtEngine":
        """The engine that `livedub export` built of a graph.

        Args:
            onnx: the float32 graph, serialized: `renderer_graph(actor)`, or the shipped audio network.
            precision: what it computes in.
            driver: of the device to run on.

        Raises:
            BackendUnavailable: TensorRT is not installed.
            BackendError: there is none for this graph, device and version, it is damaged, or it is refused.
        """
        library = load_tensorrt()
        return cls(find_engine(onnx, precision, library, driver.info), driver, library)

    def network(self) -> "TensorRtGraphNetwork":
        """A network for one CUDA graph; the weights are shared.

        Raises:
            BackendError: TensorRT or the device refused.
        """
        self._driver.use()
        trt = self._library.trt
        with self._library.refusing("making an execution context"):
            context = self._engine.create_execution_context(
                trt.ExecutionContextAllocationStrategy.USER_MANAGED
            )
            if context is None:
                raise Refused
        scratch = self._driver.buffer(max(self._scratch_bytes, 1))
        network = TensorRtGraphNetwork(self, context, scratch, self._library)
        try:
            network.give_scratch(self._scratch_bytes)
        except BackendError:
            network.close()
            raise
        return network

    def close(self) -> None:
        """Free the weights; the second time nothing."""
        try:
            self._driver.use()
        finally:  # a device that has failed refuses this too
            self._engine = self._runtime = None

    def _check_tensors(self) -> None:
        """Raise unless the engine has the tensors that its file says."""
        trt, engine = self._library.trt, self._engine
        kinds = {trt.DataType.HALF: "float16", trt.DataType.FLOAT: "float32"}
        said = {trt.TensorIOMode.INPUT: self.inputs, trt.TensorIOMode.OUTPUT: self.outputs}
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        if set(names) != self.inputs.keys() | self.outputs.keys():
            raise Refused(f"its tensors are {names}, its file says otherwise")
        for name in names:
            spec = said[engine.get_tensor_mode(name)].get(name)
            shape, kind = tuple(engine.get_tensor_shape(name)), kinds.get(engine.get_tensor_dtype(name))
            if spec is None or (shape, kind) != (spec.shape, str(spec.dtype)):
                raise Refused(f"its tensor '{name}' is {kind} {list(shape)}, its file says otherwise")


class TensorRtGraphNetwork(GraphNetwork):
    """One execution context with its scratch memory; see `GraphNetwork`. Made by `TensorRtEngine.network`."""

    def __init__(self, engine: TensorRtEngine, context: Any, scratch: Buffer, library: TensorRt) -> None:
        self._engine, self._context, self._scratch, self._library = engine, context, scratch, library
        self._closing: list[Callable[[], None]] = []

    @property
    def name(self) -> str:
        """See `GraphNetwork.name`."""
        return NAME

    @property
    def precision(self) -> Precision:
        """See `GraphNetwork.precision`."""
        return self._engine.precision

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """See `GraphNetwork.inputs`."""
        return self._engine.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """See `GraphNetwork.outputs`."""
        return self._engine.outputs

    def give_scratch(self, size_bytes: int) -> None:
        """Say where the activations lie; once, by who made it."""
        with self._library.refusing("taking its memory"):
            self._context.set_device_memory(self._scratch.address, size_bytes)

    def bind(self, addresses: Mapping[str, int]) -> None:
        """See `GraphNetwork.bind`."""
        wanted = self.inputs.keys() | self.outputs.keys()
        if addresses.keys() != wanted:
            raise ValueError(f"the network wants addresses of {sorted(wanted)}, got {sorted(addresses)}")
        with self._library.refusing("taking the addresses"):
            for name, address in addresses.items():
                if not self._context.set_tensor_address(name, address):
                    raise Refused

    def enqueue(self, stream_handle: int) -> None:
        """See `GraphNetwork.enqueue`."""
        with self._library.refusing("running"):
            if not self._context.execute_async_v3(stream_handle):
                raise Refused

    def close_with(self, close: Callable[[], None]) -> None:
        """Let `close` be called when this network is closed: of the engine, if nobody else has it."""
        self._closing.append(close)

    def close(self) -> None:
        """See `GraphNetwork.close`."""
        self._context = None
        self._scratch.close()
        while self._closing:
            self._closing.pop()()


def open_graph_network(onnx: bytes, precision: Precision, driver: Driver) -> TensorRtGraphNetwork:
    """A network for one CUDA graph that has its engine for itself: closing it closes both.

    Args:
        onnx: as for `TensorRtEngine.open`.
        precision: as for `TensorRtEngine.open`.
        driver: of the device to run on; the caller's.

    Raises:
        BackendUnavailable, BackendError: as for `TensorRtEngine.open` and `TensorRtEngine.network`.
    """
    engine = TensorRtEngine.open(onnx, precision, driver)
    try:
        network = engine.network()
    except BackendError:
        engine.close()
        raise
    network.close_with(engine.close)
    return network


class TensorRtNetwork(CheckedNetwork):
    """A graph on the first GPU, from host arrays to host arrays; every call waits for the device.

    Its tensors are float32 as the graph's, whatever the engine's are; its batch is the engine's.

    Args:
        graph: a float32 graph that an engine was built of.
        threads: of no meaning here.
        precision: of the engine.
        driver: of the device; None opens the first one.

    Raises:
        BackendUnavailable: TensorRT is not installed, or there is no GPU.
        BackendError: as for `TensorRtEngine.open`.
    """

    def __init__(
        self, graph: Graph, threads: int, precision: Precision, *, driver: Driver | None = None
    ) -> None:
        self._driver = open_driver() if driver is None else driver
        self._network = open_graph_network(graph.model, precision, self._driver)
        inputs = [_as_graph(spec, self._network.inputs) for spec in graph.inputs]
        outputs = [_as_graph(spec, self._network.outputs) for spec in graph.outputs]
        super().__init__(NAME, precision, inputs, outputs)
        self._stream: Stream = self._driver.stream()
        specs = {**self._network.inputs, **self._network.outputs}
        self._host = {name: np.zeros(_static(spec), spec.dtype) for name, spec in specs.items()}
        self._device = {name: self._driver.buffer(array.nbytes) for name, array in self._host.items()}
        self._network.bind({name: buffer.address for name, buffer in self._device.items()})

    def _infer(self, feeds: dict[str, Array]) -> Sequence[Array]:
        self._driver.use()
        for name, array in feeds.items():
            np.copyto(self._host[name], array, casting="same_kind")
            self._driver.upload(self._device[name], self._host[name])
        self._network.enqueue(self._stream.handle)
        self._stream.synchronize()
        for name in self.outputs:
            self._driver.download(self._device[name], self._host[name])
        return [self._host[name].astype(spec.dtype) for name, spec in self.outputs.items()]


def _specs(tensors: Sequence[EngineTensor]) -> Mapping[str, TensorSpec]:
    return MappingProxyType({tensor.name: tensor.spec for tensor in tensors})


def _as_graph(wanted: TensorSpec, built: Mapping[str, TensorSpec]) -> TensorSpec:
    """The graph's tensor with the engine's static shape.

    Raises:
        BackendError: the engine has no such tensor.
    """
    if wanted.name not in built:
        raise BackendError(f"the engine has no tensor '{wanted.name}', which its graph has")
    return replace(wanted, shape=built[wanted.name].shape, symbols=())


def _static(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(length or 1 for length in spec.shape)
