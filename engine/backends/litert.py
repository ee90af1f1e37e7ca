"""LiteRT (formerly TensorFlow Lite): runs the `.tflite` networks of the face tracker on the CPU."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine.arrays import Array
from engine.errors import BackendError, BackendUnavailable

STDERR = 2  # file descriptor


class LiteRTNetwork:
    """One `.tflite` network with its own buffers.

    Deterministic for equal input and thread count. Not to be used by two threads at once.

    Attributes:
        name: for messages.
        inputs: shape of every input by name, batch axis included.
        outputs: shape of every output by name.
    """

    def __init__(self, model: bytes, *, name: str, threads: int = 1) -> None:
        """Open a serialized network.

        Args:
            model: content of a `.tflite` file.
            name: for messages.
            threads: CPU threads of one run, at least 1.

        Raises:
            BackendUnavailable: LiteRT is not installed.
            BackendError: the content is not a network that LiteRT can run.
        """
        if threads < 1:
            raise ValueError(f"{threads = } must be at least 1")
        self.name = name
        self._interpreter = _open(model, name, threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs: Mapping[str, tuple[int, ...]] = {d["name"]: _shape(d) for d in inputs}
        self.outputs: Mapping[str, tuple[int, ...]] = {d["name"]: _shape(d) for d in outputs}
        self._input_index = {d["name"]: int(d["index"]) for d in inputs}
        self._input_dtype = {d["name"]: np.dtype(d["dtype"]) for d in inputs}
        self._output_index = {d["name"]: int(d["index"]) for d in outputs}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once.

        Args:
            feeds: one array per input, of exactly its shape and dtype; copied.

        Returns:
            One array per output; the caller owns them.

        Raises:
            ValueError: an input is missing, unknown, or of another shape or dtype.
            BackendError: LiteRT failed.
        """
        if feeds.keys() != self.inputs.keys():
            raise ValueError(f"{self.name} takes {sorted(self.inputs)}, got {sorted(feeds)}")
        for key, array in feeds.items():
            if array.shape != self.inputs[key] or array.dtype != self._input_dtype[key]:
                wanted = f"{self._input_dtype[key]} {list(self.inputs[key])}"
                raise ValueError(
                    f"{self.name}: {key} must be {wanted}, got {array.dtype} {list(array.shape)}"
                )
        try:
            for key, array in feeds.items():
                self._interpreter.set_tensor(self._input_index[key], array)
            self._interpreter.invoke()
            return {key: self._interpreter.get_tensor(at) for key, at in self._output_index.items()}
        except RuntimeError as error:
            raise BackendError(f"LiteRT failed in {self.name}: {error}") from error

    def __repr__(self) -> str:
        return f"LiteRTNetwork({self.name!r}, inputs={dict(self.inputs)}, outputs={dict(self.outputs)})"


def _open(model: bytes, name: str, threads: int) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise BackendUnavailable(
            "face tracking needs LiteRT: pip install 'ai-edge-litert>=2.3,<3'"
        ) from error
    try:
        with _without_notices():
            interpreter = Interpreter(model_content=model, num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise BackendError(f"LiteRT cannot open {name}: {error}") from error
    return interpreter


@contextmanager
def _without_notices() -> Iterator[None]:
    """Keep LiteRT's `INFO:` lines off the process's standard error; other lines follow at the end.

    LiteRT writes them to the file descriptor itself and has no switch for it.
    """
    with tempfile.TemporaryFile() as kept:
        try:
            before = os.dup(STDERR)
        except OSError:  # closed by whoever started the process
            yield
            return
        os.dup2(kept.fileno(), STDERR)
        try:
            yield
        finally:
            os.dup2(before, STDERR)
            os.close(before)
            kept.seek(0)
            said = [line for line in kept if not line.startswith(b"INFO: ")]
            if said:
                os.write(STDERR, b"".join(said))


def _shape(detail: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in detail["shape"])
