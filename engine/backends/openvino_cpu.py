"""OpenVINO on the CPU: the fastest on x86, in float32, bfloat16 or 8-bit integers."""

import sys
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from engine.arrays import Array
from engine.backends.graph import Graph
from engine.backends.network import CheckedNetwork, Precision, library_errors
from engine.errors import BackendUnavailable

NAME = "openvino"
_TELEMETRY = "openvino_telemetry"
_ERRORS = (RuntimeError, ValueError, TypeError)


def import_openvino() -> ModuleType:
    """Import the library without its telemetry.

    `import openvino` reports itself to its maker's server and writes an identifier into the user's home,
    unless the package `openvino_telemetry` cannot be imported: then it takes its own empty stand-in.

    Raises:
        BackendUnavailable: it cannot be imported.
    """
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # an import of it fails, as documented
    try:
        import openvino
    except ImportError as error:
        raise BackendUnavailable("backend 'openvino' needs: pip install 'openvino>=2026.4'") from error
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]
    module: ModuleType = openvino
    return module


@cache
def _core(openvino: ModuleType) -> Any:
    """The library's root object, one for the process and never destroyed.

    Each one installs a stack for signal handlers and at its end puts back the one it found, even if that has
    been unmapped: after two that end in the order in which they began, the next signal, such as Ctrl-C, is
    a segmentation fault (measured with 2026.4.1).
    """
    return openvino.Core()


def version() -> str:
    """Version of the library.

    Raises:
        BackendUnavailable: it cannot be imported.
    """
    return str(import_openvino().__version__)


class OpenVinoNetwork(CheckedNetwork):
    """A graph in one OpenVINO inference request.

    OpenVINO does not check shapes while it runs: an operator given arrays that do not fit returns whatever is
    in memory. Open lengths should therefore be few, and named.
    """

    def __init__(self, graph: Graph, threads: int, precision: Precision) -> None:
        openvino = import_openvino()
        super().__init__(NAME, precision, graph.inputs, graph.outputs)
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            # None: all is done in the thread that asks. A thread of the library's own would for ever have the
            # priority of whoever opened the process's first graph.
            "NUM_STREAMS": "0" if threads == 1 else "1",
            "INFERENCE_NUM_THREADS": str(threads),
            # Always said: the library's own default is bfloat16 on CPUs that have it.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            # Networks of one process would all be pinned to the same first cores.
            "ENABLE_CPU_PINNING": "NO",
        }
        with library_errors(NAME, "opening a graph", _ERRORS):
            core = _core(openvino)
            compiled = core.compile_model(core.read_model(graph.model), "CPU", config)
            self._request = compiled.create_infer_request()

    def _infer(self, feeds: dict[str, Array]) -> Sequence[Array]:
        with library_errors(NAME, "running", _ERRORS):
            self._request.infer(feeds, share_inputs=True)
            return [np.asarray(self._request.get_tensor(name).data) for name in self.outputs]
