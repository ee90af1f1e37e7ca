"""ONNX Runtime on the CPU: runs everywhere, in float32 or 8-bit integers."""

import os
from collections.abc import Sequence
from types import ModuleType

from engine.arrays import Array
from engine.backends.cpu import cpu_info, fastest_precision
from engine.backends.graph import Graph
from engine.backends.network import CheckedNetwork, Precision, library_errors
from engine.errors import BackendUnavailable

NAME = "onnxruntime"
_PROVIDER = "CPUExecutionProvider"
_INT8: tuple[Precision, ...] = ("int8",)
_ONLY_FATAL = 4  # errors are raised too; onnxruntime's log severity


def import_onnxruntime() -> ModuleType:
    """Import the library without its telemetry.

    Left alone it sends an event for each process, session and error to its maker and writes an identifier
    into the user's home. The variable must be there before the first import in the process (the library's
    Privacy.md, "Disabling Telemetry"); its interface to turn events off is too late for the first of them.

    Raises:
        BackendUnavailable: it cannot be imported.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailable("backend 'onnxruntime' needs: pip install 'onnxruntime>=1.31'") from error
    module: ModuleType = onnxruntime
    module.disable_telemetry_events()
    return module


def version() -> str:
    """Version of the library.

    Raises:
        BackendUnavailable: it cannot be imported.
    """
    return str(import_onnxruntime().__version__)


def adds_integers_exactly(flags: frozenset[str]) -> bool:
    """Whether sums of 8-bit products stay what they are on a CPU with these flags.

    On x86 without instructions for them, the library adds pairs as int16, which clips them (ONNX Runtime's
    documentation, "Quantize ONNX models", on "U8S8").
    """
    return "sse2" not in flags or fastest_precision(flags, _INT8) == "int8"


class OnnxRuntimeNetwork(CheckedNetwork):
    """A graph in one ONNX Runtime session.

    Threads do not spin while they wait: between two frames the CPU belongs to the codec.
    """

    def __init__(self, graph: Graph, threads: int, precision: Precision) -> None:
        onnxruntime = import_onnxruntime()
        if precision == "int8" and not adds_integers_exactly(cpu_info()[1]):
            raise BackendUnavailable(f"backend '{NAME}' needs a CPU with VNNI for int8; use f32, or openvino")
        super().__init__(NAME, precision, graph.inputs, graph.outputs)
        self._errors = _error_types()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = _ONLY_FATAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        with library_errors(NAME, "opening a graph", self._errors):
            self._session = onnxruntime.InferenceSession(graph.model, options, providers=[_PROVIDER])

    def _infer(self, feeds: dict[str, Array]) -> Sequence[Array]:
        with library_errors(NAME, "running", self._errors):
            results: list[Array] = self._session.run(list(self.outputs), feeds)
        return results


def _error_types() -> tuple[type[Exception], ...]:
    """All errors that the library defines: they share no base but `Exception`."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (RuntimeError, ValueError, *own)
