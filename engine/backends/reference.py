"""The oracle: ONNX's own numpy evaluator, operator by operator as the standard writes them. Slow."""

from collections.abc import Sequence
from typing import cast

from engine.arrays import Array
from engine.backends.graph import Graph
from engine.backends.network import CheckedNetwork, Precision, library_errors
from engine.errors import BackendUnavailable

NAME = "reference"
_ERRORS = (RuntimeError, ValueError, TypeError, NotImplementedError, IndexError, KeyError)


def version() -> str:
    """Version of the library.

    Raises:
        BackendUnavailable: it cannot be imported.
    """
    try:
        import onnx
        import onnx.reference
    except ImportError as error:
        raise BackendUnavailable("backend 'reference' needs: pip install 'onnx>=1.20'") from error
    return str(onnx.__version__)


class ReferenceNetwork(CheckedNetwork):
    """A graph evaluated by numpy on one thread: in float32, with integers as the graph says."""

    def __init__(self, graph: Graph, precision: Precision) -> None:
        version()
        from onnx.reference import ReferenceEvaluator

        super().__init__(NAME, precision, graph.inputs, graph.outputs)
        with library_errors(NAME, "opening a graph", _ERRORS):
            self._evaluator = ReferenceEvaluator(graph.model)

    def _infer(self, feeds: dict[str, Array]) -> Sequence[Array]:
        with library_errors(NAME, "running", _ERRORS):
            results = self._evaluator.run(None, feeds)
        return cast(list[Array], results)
