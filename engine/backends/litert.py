"""LiteRT (formerly TensorFlow Lite): runs the `.tflite` networks of the face tracker on the CPU, float32."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine.arrays import Array
from engine.backends.network import CheckedNetwork, TensorSpec, library_errors
from engine.errors import BackendUnavailable

NAME = "litert"
_STDERR = 2  # file descriptor
_ERRORS = (ValueError, RuntimeError)


class LiteRTNetwork(CheckedNetwork):
    """One `.tflite` network with its own buffers; deterministic for equal input and thread count."""

    def __init__(self, model: bytes, *, label: str, threads: int = 1) -> None:
        """Open a serialized network.

        Args:
            model: content of a `.tflite` file.
            label: what the network is, for messages.
            threads: CPU threads of one run, at least 1; with 1 everything happens in the calling thread.

        Raises:
            BackendUnavailable: LiteRT is not installed.
            BackendError: the content is not a network that LiteRT can run.
        """
        if threads < 1:
            raise ValueError(f"{threads = } must be at least 1")
        self._label = label
        self._interpreter = _open(model, label, threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        super().__init__(NAME, "f32", [_spec(d) for d in inputs], [_spec(d) for d in outputs])
        self._input_index = {d["name"]: int(d["index"]) for d in inputs}
        self._output_index = [int(d["index"]) for d in outputs]

    def _infer(self, feeds: dict[str, Array]) -> Sequence[Array]:
        with library_errors(NAME, f"running the {self._label}", _ERRORS):
            for name, array in feeds.items():
                self._interpreter.set_tensor(self._input_index[name], array)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(at) for at in self._output_index]


def _open(model: bytes, label: str, threads: int) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise BackendUnavailable(
            "face tracking needs LiteRT: pip install 'ai-edge-litert>=2.3,<3'"
        ) from error
    with library_errors(NAME, f"opening the {label}", _ERRORS), _without_notices():
        interpreter = Interpreter(model_content=model, num_threads=threads)
        interpreter.allocate_tensors()
    return interpreter


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(detail["name"], tuple(int(n) for n in detail["shape"]), np.dtype(detail["dtype"]))


@contextmanager
def _without_notices() -> Iterator[None]:
    """Keep LiteRT's `INFO:` lines off the process's standard error; other lines follow at the end.

    LiteRT writes them to the file descriptor itself and has no switch for it.
    """
    with tempfile.TemporaryFile() as kept:
        try:
            before = os.dup(_STDERR)
        except OSError:  # closed by whoever started the process
            yield
            return
        os.dup2(kept.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(before, _STDERR)
            os.close(before)
            kept.seek(0)
            said = [line for line in kept if not line.startswith(b"INFO: ")]
            if said:
                os.write(_STDERR, b"".join(said))
