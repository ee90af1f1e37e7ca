"""ONNX Runtime on the CPU: runs everywhere, float32."""

from collections.abc import Sequence

from engine.arrays import Array
from engine.backends.graph import Graph
from engine.backends.network import CheckedNetwork, library_errors
from engine.errors import BackendUnavailable

NAME = "onnxruntime"
_PROVIDER = "CPUExecutionProvider"
_ONLY_ERRORS = 3  # onnxruntime's log severity


def version() -> str:
    """Version of the library.

    Raises:
        BackendUnavailable: it cannot be imported.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailable("backend 'onnxruntime' needs: pip install 'onnxruntime>=1.31'") from error
    return str(onnxruntime.__version__)


class OnnxRuntimeNetwork(CheckedNetwork):
    """A graph in one ONNX Runtime session.

    Threads do not spin while they wait: between two frames the CPU belongs to the codec.
    """

    def __init__(self, graph: Graph, threads: int) -> None:
        version()
        import onnxruntime

        super().__init__(NAME, "f32", graph.inputs, graph.outputs)
        self._errors = _error_types()
        onnxruntime.disable_telemetry_events()  # collected on Windows only
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = _ONLY_ERRORS
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
