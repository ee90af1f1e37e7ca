"""The backends that exist, and the one place where a graph is opened on one of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.backends import onnxruntime_cpu, openvino_cpu, reference
from engine.backends.cpu import cpu_info, fastest_precision
from engine.backends.graph import Graph, describe
from engine.backends.network import Network, Precision
from engine.backends.onnxruntime_cpu import OnnxRuntimeNetwork
from engine.backends.openvino_cpu import OpenVinoNetwork
from engine.backends.reference import ReferenceNetwork
from engine.errors import BackendUnavailable

WantedPrecision = Literal["auto", "f32", "bf16"]


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
    open: Callable[[Graph, int, WantedPrecision], Network]
    precisions: tuple[Precision, ...]

    @property
    def automatic(self) -> Precision:
        return fastest_precision(cpu_info()[1]) if "bf16" in self.precisions else "f32"


_BACKENDS = {
    reference.NAME: _Backend(reference.version, lambda graph, *_: ReferenceNetwork(graph), ("f32",)),
    onnxruntime_cpu.NAME: _Backend(
        onnxruntime_cpu.version, lambda graph, threads, _: OnnxRuntimeNetwork(graph, threads), ("f32",)
    ),
    openvino_cpu.NAME: _Backend(openvino_cpu.version, OpenVinoNetwork, ("f32", "bf16")),
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

    Args:
        model: serialized ONNX graph, complete in itself.
        backend: one of `backend_names()`.
        threads: how many threads one call may use, at least 1; `reference` always uses one.
        precision: `f32` and `bf16` are what they say; `auto` is the fastest of the backend on this CPU.

    Returns:
        A network for one stream; calls on it never overlap.

    Raises:
        ValueError: an unknown backend or precision, `threads` below 1, or `model` is not an ONNX graph.
        BackendUnavailable: the library is not installed, or has not this precision.
        BackendError: the library refused the graph.
    """
    entry = _BACKENDS.get(backend)
    if entry is None:
        raise ValueError(f"unknown backend '{backend}'; known: {', '.join(_BACKENDS)}")
    if threads < 1:
        raise ValueError(f"{threads = } must be at least 1")
    if precision not in ("auto", "f32", "bf16"):
        raise ValueError(f"{precision = } must be auto, f32 or bf16")
    if precision != "auto" and precision not in entry.precisions:
        offered = " and ".join(entry.precisions)
        raise BackendUnavailable(f"backend '{backend}' offers {offered}, not {precision}; use openvino")
    return entry.open(describe(model), threads, precision)


def available() -> list[BackendStatus]:
    """Try every backend's library and say what came of it. Never raises."""
    return [_status(name, entry) for name, entry in _BACKENDS.items()]


def default_backend() -> str:
    """The fastest backend that this machine has.

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
    return BackendStatus(name, True, version, entry.precisions, f"auto = {entry.automatic}")
