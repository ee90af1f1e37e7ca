"""A recurrent network, one step of several streams at a time, as one CUDA graph with its state on the device.

The network has an output `next_X` for every state `X` among its inputs; the graph copies the one over the
other. Only what comes in and goes out crosses the bus. The first axis of every tensor is the stream.
"""

from collections.abc import Collection, Mapping

import numpy as np

from engine.arrays import Array
from engine.backends.cuda.driver import Driver, Event, Graph, GraphNetwork, MappedBuffer
from engine.backends.cuda.params import Section, aligned
from engine.backends.cuda.slots import SLOTS, SlottedGraph
from engine.backends.network import TensorSpec

NEXT = "next_"


class AudioSlot:
    """One step in mapped memory: fill in, submit, finish, read; not touched between `submit` and `finish`.

    Attributes:
        inputs: by name, [B, ...], what is no state; at first as two steps ago.
        outputs: by name, [B, ...].
        in_flight: submitted and not finished yet.
    """

    def __init__(
        self,
        index: int,
        block: MappedBuffer,
        sections: tuple[Mapping[str, Section], Mapping[str, Section]],
        times: tuple[Event, Event],
    ) -> None:
        self.index, self.block, self.in_flight = index, block, False
        self.started, self.done = times
        inputs, outputs = sections
        self.inputs: dict[str, Array] = {name: s.of(block.host) for name, s in inputs.items()}
        self.outputs: dict[str, Array] = {name: s.of(block.host) for name, s in outputs.items()}

    @property
    def device_ms(self) -> float:
        """How long the device had its last step, once that is finished."""
        return self.done.ms_since(self.started)

    def wait(self) -> None:
        """See `Slot.wait`."""
        self.done.wait()


class AudioGraph(SlottedGraph[AudioSlot]):
    """Steps of a recurrent network on a device; see the module. Not for use by two threads at a time.

    Args:
        driver: the device; it must outlive the graph, and may be shared.
        network: with static shapes and one first axis for all tensors. The graph's from now on, also if
            opening fails.
        initial: one stream's first state by name, shapes without the first axis.

    Raises:
        ValueError: the network's tensors do not fit together, or `initial` does not fit them.
        BackendError: the device failed, or has no memory left.
    """

    def __init__(self, driver: Driver, network: GraphNetwork, initial: Mapping[str, Array]) -> None:
        super().__init__(driver, network, "audio graph", "step")
        with self._resources.opening():
            self._resources.keep(network)
            self.rows = _rows(network)
            self._lay_out()
            driver.use()
            self._allocate(_checked_state(initial, self._state))
            for slot in self.slots:  # libraries choose, compile and allocate in their first run
                self._record(slot)
                self._stream.synchronize()
            self._graphs = [self._captured(slot) for slot in self.slots]
            self.reset()
            self._stream.synchronize()

    def submit(self, slot: AudioSlot, rows: Collection[int] | None = None) -> None:
        """Let the device take the step that was filled in; returns at once.

        Args:
            slot: from `begin`.
            rows: the streams that take it, or all; the others keep their states and have no outputs.

        Raises:
            ValueError: the slot is not the one to fill in, or there is no such row.
            BackendError: the device failed; the graph is closed.
        """
        self._check_next(slot)
        waiting = [] if rows is None else [row for row in range(self.rows) if row not in rows]
        if rows is not None:
            self._check_rows(rows)
        state, stash = self._buffers["state"].address, self._buffers["stash"].address
        with self._resources.using():
            self._driver.use()
            slot.started.record(self._stream)
            self._copy_rows(stash, state, waiting)
            self._graphs[slot.index].launch(self._stream)
            self._copy_rows(state, stash, waiting)
            slot.done.record(self._stream)
        self._submitted(slot)

    def reset(self, rows: Collection[int] | None = None) -> None:
        """Begin again with these streams, or all, after the steps submitted so far.

        Raises:
            ValueError: there is no such row.
            BackendError: the device failed; the graph is closed.
        """
        chosen = range(self.rows) if rows is None else rows
        self._check_rows(chosen)
        with self._resources.using():
            self._driver.use()
            self._copy_rows(self._buffers["state"].address, self._buffers["initial"].address, chosen)

    def state(self) -> dict[str, Array]:
        """Copies of all streams' states by name, [B, ...], after the steps submitted so far; waits for them.

        Raises:
            BackendError: the device failed; the graph is closed.
        """
        block = np.empty(self._buffers["state"].size_bytes, np.uint8)
        with self._resources.using():
            self._driver.use()
            self._driver.download(self._buffers["state"], block)
        return {name: section.of(block).copy() for name, section in self._state.items()}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Go on from states [B, ...] as `state` gave them, after the steps submitted so far; waits for them.

        Raises:
            ValueError: a state is missing, unknown, or of another type or shape.
            BackendError: the device failed; the graph is closed.
        """
        block = np.zeros(self._buffers["state"].size_bytes, np.uint8)
        _check_names(state, self._state)
        for name, section in self._state.items():
            TensorSpec(name, section.shape, section.dtype).check(state[name])
            section.of(block)[...] = state[name]
        with self._resources.using():
            self._driver.use()
            self._stream.synchronize()
            self._driver.upload(self._buffers["state"], block)

    def _lay_out(self) -> None:
        inputs, outputs = self._network.inputs, self._network.outputs
        states = [name for name in inputs if NEXT + name in outputs]
        self._state, self._state_bytes = _sections(0, {name: inputs[name] for name in states})
        nexts = {name: outputs[NEXT + name] for name in states}
        if _sections(0, nexts)[0] != self._state:
            raise ValueError("a state's next must have its type and shape")
        self._in, self._in_bytes = _sections(0, {n: s for n, s in inputs.items() if n not in self._state})
        rest = {n: s for n, s in outputs.items() if n.removeprefix(NEXT) not in self._state}
        self._out, self._block_bytes = _sections(self._in_bytes, rest)

    def _allocate(self, initial: Array) -> None:
        keep, driver = self._resources.keep, self._driver
        self._stream = keep(driver.stream())
        sizes = dict.fromkeys(("state", "next", "stash", "initial"), self._state_bytes)
        sizes["block"] = self._block_bytes
        self._buffers = {name: keep(driver.buffer(size_bytes)) for name, size_bytes in sizes.items()}
        driver.upload(self._buffers["initial"], initial)
        self._network.bind(self._addresses())
        self.slots = []
        for index in range(SLOTS):
            block, times = (
                keep(driver.mapped(self._block_bytes)),
                (keep(driver.event()), keep(driver.event())),
            )
            self.slots.append(AudioSlot(index, block, (self._in, self._out), times))
        self._resources.before_closing(self._stream.synchronize)
        self._resources.before_closing(driver.use)

    def _addresses(self) -> dict[str, int]:
        groups = (
            ("block", "", self._in | self._out),
            ("state", "", self._state),
            ("next", NEXT, self._state),
        )
        return {
            prefix + name: self._buffers[buffer].address + section.offset
            for buffer, prefix, sections in groups
            for name, section in sections.items()
        }

    def _record(self, slot: AudioSlot) -> None:
        """What comes in, the network, its state, what goes out."""
        block, state, following = (self._buffers[name].address for name in ("block", "state", "next"))
        copy, host, out = self._driver.copy, slot.block.address, self._in_bytes
        copy(self._stream, block, host, self._in_bytes)
        self._network.enqueue(self._stream.handle)
        copy(self._stream, state, following, self._state_bytes)
        copy(self._stream, host + out, block + out, self._block_bytes - out)

    def _captured(self, slot: AudioSlot) -> Graph:
        return self._resources.keep(self._driver.capture(self._stream, lambda: self._record(slot)))

    def _copy_rows(self, target: int, source: int, rows: Collection[int]) -> None:
        for section in self._state.values():
            row_bytes = section.size_bytes // self.rows
            for row in rows:
                at = section.offset + row * row_bytes
                self._driver.copy(self._stream, target + at, source + at, row_bytes)

    def _check_rows(self, rows: Collection[int]) -> None:
        if any(not 0 <= row < self.rows for row in rows):
            raise ValueError(f"rows must be in 0..{self.rows - 1}, got {sorted(rows)}")


def _rows(network: GraphNetwork) -> int:
    """The length of the first axis of every tensor."""
    specs = [*network.inputs.values(), *network.outputs.values()]
    if any(length is None or length < 1 for spec in specs for length in spec.shape):
        raise ValueError("a graph's network must have static shapes")
    lengths = {spec.shape[0] if spec.shape else None for spec in specs}
    (rows,) = lengths if len(lengths) == 1 else (None,)
    if rows is None:
        raise ValueError(f"every tensor's first axis must be the streams, got lengths {lengths}")
    return rows


def _sections(start: int, specs: Mapping[str, TensorSpec]) -> tuple[dict[str, Section], int]:
    """Where tensors lie one after the other, and where they end; at least one unit long."""
    sections, end = {}, start
    for name, spec in specs.items():
        section = Section(end, tuple(length or 0 for length in spec.shape), spec.dtype)
        sections[name], end = section, aligned(end + section.size_bytes)
    return sections, max(end, start + 1)


def _check_names(given: Mapping[str, Array], wanted: Mapping[str, Section]) -> None:
    if given.keys() != wanted.keys():
        raise ValueError(f"the network's states are {sorted(wanted)}, got {sorted(given)}")


def _checked_state(initial: Mapping[str, Array], sections: Mapping[str, Section]) -> Array:
    """The block [bytes] in which every stream has its first state."""
    _check_names(initial, sections)
    block = np.zeros(max((s.offset + s.size_bytes for s in sections.values()), default=1), np.uint8)
    for name, section in sections.items():
        TensorSpec(name, section.shape[1:], section.dtype).check(initial[name])
        section.of(block)[...] = initial[name]
    return block
