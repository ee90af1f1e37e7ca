"""Networks on the streams of a `FakeDriver`: made up ones, and a host backend's."""

import ctypes
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from engine.arrays import Array
from engine.backends.network import Network, Precision, TensorSpec
from tests.support.fake_cuda import FREE, FakeDriver, Operation


class FakeNetwork:
    """A network that a stream of a `FakeDriver` runs, on tensors at addresses.

    Args:
        driver: whose streams.
        inputs: what it reads.
        outputs: what it writes.
        compute: new outputs by name, from copies of the inputs; None: it only is enqueued.
    """

    name = "imagined"

    def __init__(
        self,
        driver: FakeDriver,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        compute: Callable[[dict[str, Array]], Mapping[str, Array]] | None = None,
    ) -> None:
        self.precision: Precision = "f32"
        self.inputs = {spec.name: spec for spec in inputs}
        self.outputs = {spec.name: spec for spec in outputs}
        self.driver, self.compute, self.closed = driver, compute, 0
        self.addresses: dict[str, int] = {}

    def bind(self, addresses: Mapping[str, int]) -> None:
        self.driver.call("bind")
        if self.addresses or addresses.keys() != self.inputs.keys() | self.outputs.keys():
            raise ValueError(f"bound to {sorted(addresses)}")
        self.addresses = dict(addresses)

    def enqueue(self, stream_handle: int) -> None:
        self.driver.call("network")
        uses = self.driver.buffers_at(self.addresses.values()) | {self}
        operation = Operation("network", self._run, uses)
        self.driver.enqueue(self.driver.stream_of(stream_handle), operation)

    def _run(self) -> None:
        if self.compute is None:
            return
        feeds = {name: self.tensor(name).copy() for name in self.inputs}
        for name, array in self.compute(feeds).items():
            self.tensor(name)[...] = array

    def tensor(self, name: str) -> Array:
        """The tensor's memory."""
        spec = (self.inputs | self.outputs)[name]
        shape = tuple(length or 1 for length in spec.shape)
        return array_at(self.addresses[name], shape, spec.dtype)

    def close(self) -> None:
        self.closed += 1
        self.driver.check_unused(self)
        self.driver.call(FREE, "network")


def on_cpu(driver: FakeDriver, network: Network, rows: int = 1) -> FakeNetwork:
    """A network of a host backend, float32, with static shapes: open axes are `rows` long."""

    def static(specs: Mapping[str, TensorSpec]) -> list[TensorSpec]:
        return [TensorSpec(s.name, tuple(n or rows for n in s.shape), s.dtype) for s in specs.values()]

    return FakeNetwork(driver, static(network.inputs), static(network.outputs), network.run)


def array_at(address: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """The array at an address."""
    size = int(np.prod(shape)) * dtype.itemsize
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)).view(dtype).reshape(shape)
