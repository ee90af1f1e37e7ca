"""The backends that exist, and the one place where a graph is opened on one of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from engine.backends import onnxruntime_cpu, openvino_cpu, reference, selfbench, tensorrt_module
from engine.backends.cpu import cpu_info
from engine.backends.graph import Graph, describe
from engine.backends.network import Network, Precision
from engine.backends.onnxruntime_cpu import OnnxRuntimeNetwork
from engine.backends.openvino_cpu import OpenVinoNetwork
from engine.backends.reference import ReferenceNetwork
from engine.errors import BackendUnavailable

CUDA_TORCH = "cuda-torch"
WantedPrecision = Literal["auto", "f32", "bf16", "f16", "int8"]
PRECISIONS: tuple[WantedPrecision, ...] = get_args(WantedPrecision)


@dataclass(frozen=True)
class BackendStatus:
    """What one backend can do on this machine.

    Attributes:
        name: as given to `load_network`.
        available: whether `load_network` can succeed.
        version: of its library; "" if not available.
        precisions: those it offers.
        detail: which precision `auto` means, or what to do to make it available.
    """

    name: str
    available: bool
    version: str
    precisions: tuple[Precision, ...]
    detail: str


@dataclass(frozen=True)
class _Backend:
    version: Callable[[], str]
    open: Callable[[Graph, int, Precision], Network]
    precisions: tuple[Precision, ...]
    fixed: Precision | None = None  # what `auto` is, if that does not depend on the CPU
    hint: str = ""

    def automatic(self, name: str, *, integers: bool) -> Precision:
        offered = [precision for precision in self.precisions if integers or precision != "int8"]
        if self.fixed is not None:
            return self.fixed
        cpu = cpu_info()
        try:
            measured = selfbench.load(selfbench.machine_of(cpu, name, self.version()))
        except BackendUnavailable:
            measured = None
        return selfbench.decide(cpu[1], offered, measured)


def _tensorrt_version() -> str:
    from engine.backends.tensorrt_gpu import version

    return version()


def _open_tensorrt(graph: Graph, threads: int, precision: Precision) -> Network:
    from engine.backends.tensorrt_gpu import TensorRtNetwork

    return TensorRtNetwork(graph, threads, precision)


def _cuda_torch_version() -> str:
    from engine.backends import cuda_torch, tensorrt_gpu

    tensorrt_gpu.open_driver().close()  # the cheaper question first: torch takes seconds to import
    return cuda_torch.version()


def _open_cuda_torch(graph: Graph, threads: int, precision: Precision) -> Network:
    from engine.backends.cuda_torch import CudaTorchNetwork

    return CudaTorchNetwork(graph, threads, precision)


_BACKENDS = {
    reference.NAME: _Backend(
        reference.version,
        lambda graph, _, precision: ReferenceNetwork(graph, precision),
        ("f32", "int8"),
        fixed="f32",  # the oracle is exact whatever the CPU can do
    ),
    onnxruntime_cpu.NAME: _Backend(onnxruntime_cpu.version, OnnxRuntimeNetwork, ("f32", "int8")),
    openvino_cpu.NAME: _Backend(openvino_cpu.version, OpenVinoNetwork, ("f32", "bf16", "int8")),
    tensorrt_module.NAME: _Backend(
        _tensorrt_version,
        _open_tensorrt,
        tensorrt_module.PRECISIONS,
        fixed="f16",
        hint=f"; an actor's engines: {tensorrt_module.COMMAND}",
    ),
    CUDA_TORCH: _Backend(_cuda_torch_version, _open_cuda_torch, ("f16", "f32"), fixed="f16"),
}
_PREFERENCE = (openvino_cpu.NAME, onnxruntime_cpu.NAME)


def backend_names() -> tuple[str, ...]:
    """All names that `load_network` knows, available or not."""
    return tuple(_BACKENDS)


def load_network(
    model: bytes, *, backend: str, threads: int = 1, precision: WantedPrecision = "auto"
) -> Network:
    """Open a graph on a backend.

    The defaults are measured (`python -m benchmarks backends`): a frame of the renderer's network at 224 px
    takes 8.6 ms of CPU time in bf16 and 41 ms in f32 with openvino, 43 ms with onnxruntime, on one thread of
    a Xeon with AMX. A second thread costs up to 20 % more and belongs to the codec. bf16 moves a picture by
    up to 0.7 grey levels (rms, 52 dB) and a recurrent state by up to 1e-2: say f32 for networks with state.
    Without AMX, int8 takes 18 ms with openvino and 21 ms with onnxruntime, and moves a picture as bf16 does.

    Args:
        model: serialized ONNX graph, complete in itself.
        backend: one of `backend_names()`.
        threads: how many threads one call may use, at least 1; `reference` always uses one.
        precision: `f32` and `bf16` are what they say; `int8` is that of a graph made by `quantised`; `auto`
            is int8 for such a graph, for others the fastest of the backend on this CPU.

    Returns:
        A network for one stream; calls on it never overlap.

    Raises:
        ValueError: an unknown backend or precision, `threads` below 1, `model` is not an ONNX graph, or its
            integers and the precision do not go together.
        BackendUnavailable: the library is not installed, or has not this precision.
        BackendError: the library refused the graph.
    """
    if threads < 1:
        raise ValueError(f"{threads = } must be at least 1")
    entry = _entry(backend, precision)
    graph = describe(model)
    if precision == "auto":
        precision = "int8" if graph.integer else entry.automatic(backend, integers=False)
        _check_offered(backend, entry, precision)
    if graph.integer != (precision == "int8"):
        kind = "of integers" if graph.integer else "of floats"
        raise ValueError(f"the graph is one {kind}, which {precision = } is not for")
    return entry.open(graph, threads, precision)


def choose_precision(backend: str, wanted: WantedPrecision = "auto", *, integers: bool) -> Precision:
    """What to open a graph in, that may or may not be turned into one of integers first.

    Args:
        backend: one of `backend_names()`; need not be installed.
        wanted: `auto` is the fastest of the backend on this CPU: as measured, or else as its flags say.
        integers: whether `auto` may be int8.

    Raises:
        ValueError: an unknown backend or precision.
        BackendUnavailable: the backend has not this precision.
    """
    entry = _entry(backend, wanted)
    return entry.automatic(backend, integers=integers) if wanted == "auto" else wanted


def _entry(backend: str, precision: WantedPrecision) -> _Backend:
    """The backend of that name, which offers this precision."""
    entry = _BACKENDS.get(backend)
    if entry is None:
        raise ValueError(f"unknown backend '{backend}'; known: {', '.join(_BACKENDS)}")
    if precision not in PRECISIONS:
        raise ValueError(f"{precision = } must be one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        _check_offered(backend, entry, precision)
    return entry


def _check_offered(backend: str, entry: _Backend, precision: Precision) -> None:
    if precision not in entry.precisions:
        offered = " and ".join(entry.precisions)
        others = " or ".join(name for name, other in _BACKENDS.items() if precision in other.precisions)
        raise BackendUnavailable(f"backend '{backend}' offers {offered}, not {precision}; use {others}")


def available() -> list[BackendStatus]:
    """Try every backend's library and say what came of it. Never raises."""
    return [_status(name, entry) for name, entry in _BACKENDS.items()]


def default_backend() -> str:
    """The fastest backend that this machine has and that opens every graph: those of GPUs must be asked for.

    Raises:
        BackendUnavailable: it has none.
    """
    for name in _PREFERENCE:
        if _status(name, _BACKENDS[name]).available:
            return name
    raise BackendUnavailable("no inference library; pip install openvino (or onnxruntime)")


def _status(name: str, entry: _Backend) -> BackendStatus:
    try:
        version = entry.version()
    except BackendUnavailable as error:
        return BackendStatus(name, False, "", entry.precisions, str(error))
    best, other = entry.automatic(name, integers=True), entry.automatic(name, integers=False)
    without = "" if best == other else f" ({other} for an actor pack without its ranges)"
    return BackendStatus(name, True, version, entry.precisions, f"auto = {best}{without}{entry.hint}")
