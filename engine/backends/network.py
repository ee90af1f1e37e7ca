"""What a network is to the rest of the engine: named tensors in, named tensors out.

A `Network` is one opened graph on one device with its own scratch memory: give each stream its own; calls on
one network never overlap. It keeps no state between calls: recurrent networks take their state as an input
and return it as an output.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np

from engine.arrays import Array
from engine.errors import BackendError

# What the multiplications are rounded to; tensors are always as in `TensorSpec`. For int8 a graph itself says
# which of them are, and to what: see `quantised`.
Precision = Literal["f32", "bf16", "f16", "int8"]


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of one named tensor.

    Attributes:
        name: its name in the graph.
        shape: lengths of its axes; `None` where the graph leaves the length open.
        dtype: its element type.
        symbols: a name for each axis, "" if it has none; axes of one name have one length within a call.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[np.generic]
    symbols: tuple[str, ...] = ()

    def check(self, array: Array) -> None:
        """Raise unless `array` has this type and shape.

        Raises:
            ValueError: it has not; the message names the tensor.
        """
        if not isinstance(array, np.ndarray) or array.dtype != self.dtype:
            got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise ValueError(f"tensor '{self.name}' must be an array of {self.dtype}, got {got}")
        if len(array.shape) != len(self.shape) or any(
            want is not None and want != have for want, have in zip(self.shape, array.shape, strict=True)
        ):
            want = "[" + ", ".join("any" if n is None else str(n) for n in self.shape) + "]"
            raise ValueError(f"tensor '{self.name}' must have shape {want}, got {list(array.shape)}")


class DescribedNetwork(Protocol):
    """What every opened network says of itself."""

    @property
    def name(self) -> str:
        """The backend it runs on."""

    @property
    def precision(self) -> Precision:
        """What it really computes in, after `auto` was decided."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """What it reads, in the graph's order."""

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """What it writes, in the graph's order."""


class Network(DescribedNetwork, Protocol):
    """One opened graph on one device, from host arrays to host arrays."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs.

        Args:
            feeds: one array per input, exactly the names, types and shapes of `inputs`. Read during the call
                only and never written.

        Returns:
            New arrays that belong to the caller, in the order of `outputs`.

        Raises:
            ValueError: a feed is missing, unknown, or of another type or shape; the message names it.
            BackendError: the library failed; the network must not be used again.
        """

    def run_into(self, feeds: Mapping[str, Array], out: Mapping[str, Array]) -> None:
        """Compute all outputs into the caller's arrays; like `run` without new memory for the results.

        Args:
            feeds: as for `run`.
            out: an array for each output that is wanted, of its type and result shape; written in full. May
                share memory with `feeds`.

        Raises:
            ValueError: as for `run`, or an array of `out` does not fit; nothing has then been written.
            BackendError: as for `run`.
        """


class CheckedNetwork(ABC):
    """The part of a `Network` that is the same on every backend: checks before, copies after."""

    def __init__(
        self, name: str, precision: Precision, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self.name = name
        self.precision: Precision = precision
        self.inputs = MappingProxyType({spec.name: spec for spec in inputs})
        self.outputs = MappingProxyType({spec.name: spec for spec in outputs})

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Network.run`."""
        results = self._checked(feeds)
        return {name: np.array(result, order="C") for name, result in zip(self.outputs, results, strict=True)}

    def run_into(self, feeds: Mapping[str, Array], out: Mapping[str, Array]) -> None:
        """See `Network.run_into`."""
        _check_names("output", out.keys() - self.outputs.keys(), ())
        for name, array in out.items():
            self.outputs[name].check(array)
        results = dict(zip(self.outputs, self._checked(feeds), strict=True))
        for name, array in out.items():
            if array.shape != results[name].shape or not array.flags.writeable:
                want, got = list(results[name].shape), list(array.shape)
                raise ValueError(f"tensor '{name}' must be writeable and have shape {want}, got {got}")
        for name, array in out.items():
            np.copyto(array, results[name])

    def _checked(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        _check_names("input", feeds.keys() - self.inputs.keys(), self.inputs.keys() - feeds.keys())
        for name, spec in self.inputs.items():
            spec.check(feeds[name])
        self._check_symbols(feeds)
        return self._infer({name: np.ascontiguousarray(feeds[name]) for name in self.inputs})

    def _check_symbols(self, feeds: Mapping[str, Array]) -> None:
        """Libraries differ in what they do about this; OpenVINO reads memory that is not there."""
        lengths: dict[str, tuple[int, str]] = {}
        for name, spec in self.inputs.items():
            for symbol, length in zip(spec.symbols, feeds[name].shape, strict=False):
                first, where = lengths.setdefault(symbol, (length, name))
                if symbol and length != first:
                    raise ValueError(
                        f"axis {symbol} of tensor '{name}' is {length} long, but {first} in '{where}'"
                    )

    @abstractmethod
    def _infer(self, feeds: dict[str, Array]) -> Sequence[Array]:
        """Compute outputs in the order of `self.outputs`; they need to stay valid only until the next call.

        Args:
            feeds: checked and C-contiguous, in the order of `self.inputs`.
        """

    def __repr__(self) -> str:
        def show(specs: Mapping[str, TensorSpec]) -> str:
            return ", ".join(f"{s.name}: {s.dtype} {list(s.shape)}" for s in specs.values())

        return f"<Network {self.name} {self.precision} ({show(self.inputs)}) -> ({show(self.outputs)})>"


def _check_names(kind: str, unknown: Sequence[str] | set[str], missing: Sequence[str] | set[str]) -> None:
    if unknown:
        raise ValueError(f"the network has no {kind} named {sorted(unknown)}")
    if missing:
        raise ValueError(f"the network needs {kind} {sorted(missing)}")


@contextmanager
def library_errors(name: str, doing: str, kinds: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn what an inference library raises into `BackendError`, keeping the first line of its message."""
    try:
        yield
    except kinds as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else type(error).__name__
        raise BackendError(f"{name} failed while {doing}: {reason}") from error
