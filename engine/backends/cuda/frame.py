"""One actor's frame as one CUDA graph: region in, region out, everything between on the device.

All memory is allocated, every address set and both graphs captured when a `FrameGraph` is made; a frame is
then its numbers written to mapped memory, one graph launch and an event. There are two slots, each with its
own mapped block and graph, so that the next frame can be filled in and submitted while the device works.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.arrays import F32, I32, U8, Array, check_array
from engine.backends.cuda.driver import (
    Buffer,
    Driver,
    Event,
    Graph,
    GraphNetwork,
    Kernel,
    KernelArgument,
    MappedBuffer,
    Stream,
)
from engine.backends.cuda.kernels import AFTER_NETWORK, BEFORE_NETWORK, KernelSpec
from engine.backends.cuda.params import (
    CANVAS_CHANNELS,
    MAX_SIDE,
    PICTURE_CHANNELS,
    TEXTURE_CHANNELS,
    FrameLayout,
    FrameViews,
    blocks_of,
    cells_of,
)
from engine.backends.cuda.slots import SLOTS, SlottedGraph

INPUT, OUTPUT = "canvas", "picture"


class _Step(NamedTuple):
    """A kernel's launch."""

    kernel: Kernel
    blocks: int
    threads: int
    arguments: Sequence[KernelArgument]


@dataclass(frozen=True)
class FrameConstants:
    """What of an actor stays on the device.

    Attributes:
        triangles: int32 [N, 3], sorted by layer.
        layers: int32 [N].
        uv: float32 [V, 2].
        reference: uint8 [S, S, 3], the reference crop.
        texture: float16 [16, h, w].
    """

    triangles: I32
    layers: I32
    uv: F32
    reference: U8
    texture: Array

    def __post_init__(self) -> None:
        """Raise TypeError or ValueError unless the arrays belong together."""
        check_array("triangles", self.triangles, (None, 3), np.int32)
        check_array("layers", self.layers, (len(self.triangles),), np.int32)
        check_array("uv", self.uv, (None, 2), np.float32)
        check_array("reference", self.reference, (self.size_px, self.size_px, 3), np.uint8)
        check_array("texture", self.texture, (TEXTURE_CHANNELS, None, None), np.float16)
        if len(self.triangles) == 0 or not 0 <= self.triangles.min() <= self.triangles.max() < len(self.uv):
            raise ValueError(f"a triangle names a vertex that is not among the mesh's {len(self.uv)}")

    @property
    def size_px(self) -> int:
        """Side of the crop."""
        return int(self.reference.shape[0])

    def textures(self) -> list[Array]:
        """The texture in four parts, float16 [h, w, 4]."""
        parts = np.split(self.texture, TEXTURE_CHANNELS // 4)
        return [np.ascontiguousarray(part.transpose(1, 2, 0)) for part in parts]


class FrameSlot(FrameViews):
    """One of a graph's frames in mapped memory: fill it in, submit it, finish it, read it.

    It must not be touched between `submit` and `finish`, nor after the graph was closed.

    Attributes:
        index: which of the graph's slots.
        in_flight: submitted and not finished yet.
        idle: drawn by a batch although it had nothing to draw; nobody finishes it.
    """

    def __init__(
        self, index: int, layout: FrameLayout, block: MappedBuffer, started: Event, done: Event
    ) -> None:
        super().__init__(layout, block.host)
        self.index, self.in_flight, self.idle = index, False, False
        self.block, self.own_times = block, (started, done)
        self.times = self.own_times  # of the last submission: its own, or a batch's

    @property
    def device_ms(self) -> float:
        """How long the device had its last frame, or the batch of it, once that is finished."""
        started, done = self.times
        return done.ms_since(started)

    def wait(self) -> None:
        """See `Slot.wait`."""
        self.times[1].wait()


class FrameGraph(SlottedGraph[FrameSlot]):
    """One stream's renderer on a device; see the module. Not for use by two threads at a time.

    Args:
        driver: the device; it must outlive the graph, and may be shared.
        constants: of the actor.
        network: canvas [1, S, S, 23] to picture [1, S, S, 4], float16 or float32 each. The graph's from now
            on, also if opening fails.

    Raises:
        ValueError: the network does not fit the constants.
        BackendError: the device failed, or has no memory left.
    """

    def __init__(self, driver: Driver, constants: FrameConstants, network: GraphNetwork) -> None:
        super().__init__(driver, network, "frame graph", "frame")
        self.size_px = constants.size_px
        self._layout = FrameLayout.of(self.size_px, len(constants.uv))
        self._leave: Callable[[FrameGraph], None] | None = None  # the batch that it is in
        with self._resources.opening():
            self._resources.keep(network)
            _check_network(network, self.size_px)
            driver.use()
            self._allocate(constants)
            self._warm_up()
            self._graphs = [self._captured(slot) for slot in self.slots]
            self._resources.before_closing(self._say_goodbye)

    @property
    def canvas_dtype(self) -> np.dtype[np.generic]:
        """What `read` of the canvas gives: float16 or float32."""
        return self._network.inputs[INPUT].dtype

    def begin(self) -> FrameSlot:
        """See `SlottedGraph.begin`; waits for what a batch drew there for nobody."""
        slot = self.slots[self._next]
        if slot.idle:
            self.finish(slot)
        return super().begin()

    def submit(self, slot: FrameSlot, *, eager: bool = False) -> None:
        """Let the device draw what was filled in; returns at once.

        Args:
            slot: from `begin`.
            eager: enqueue every step by itself instead of the graph; for comparison.

        Raises:
            ValueError: the slot is not the one to fill in, or its numbers are out of range.
            BackendError: the device failed; the graph is closed.
        """
        slot.check()
        self._check_next(slot)
        if self._leave is not None:
            raise ValueError("a member of a batch is drawn with the batch")
        started, done = slot.own_times
        with self._resources.using():
            self._driver.use()
            started.record(self._stream)
            if eager:
                self.record(self._stream, slot.index)
            else:
                self._graphs[slot.index].launch(self._stream)
            done.record(self._stream)
        self.taken(slot, slot.own_times)

    def taken(self, slot: FrameSlot, times: tuple[Event, Event], *, idle: bool = False) -> None:
        """Note that the device has this slot's frame between two events."""
        slot.idle, slot.times = idle, times
        self._submitted(slot)

    def finish(self, slot: FrameSlot) -> None:
        """See `SlottedGraph.finish`; then its `out_...` are the region as it shall be."""
        super().finish(slot)
        slot.idle = False

    def read(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
        """A copy of what lies on the device under a name of `kernels`, of the frame finished last; slow.

        Raises:
            BackendError: the device failed; the graph is closed.
        """
        out = np.empty(shape, dtype)
        with self._resources.using():
            self._driver.use()
            self._driver.download(self._buffers[name], out)
        return out

    def record(self, stream: Stream, index: int) -> None:
        """Enqueue all steps of one slot's frame; also inside a capture, so a failure closes nothing here.

        Raises:
            BackendError: the device or the network failed, and the graph must be closed.
        """
        self._resources.check_open()
        driver, block, header = self._driver, self.slots[index].block, self._buffers["header"]
        before, after = self._steps[index]
        driver.copy(stream, header.address, block.address, self._layout.header_bytes)
        for step in before:
            driver.launch(stream, *step)
        self._network.enqueue(stream.handle)
        for step in after:
            driver.launch(stream, *step)

    @property
    def stream(self) -> Stream:
        """The graph's own stream; a batch's branch for this graph."""
        return self._stream

    def join_batch(self, index: int, leave: "Callable[[FrameGraph], None]") -> None:
        """Be drawn with a batch from its slots of this index on.

        Args:
            index: of the next slot.
            leave: told before anything is freed.

        Raises:
            ValueError: frames are on the device, or it is in a batch.
            BackendError: it is closed.
        """
        self._resources.check_open()
        if self._leave is not None or any(slot.in_flight and not slot.idle for slot in self.slots):
            raise ValueError("a frame graph with frames on the device or in a batch cannot join one")
        self._next, self._leave = index, leave

    def leave_batch(self) -> None:
        """Be drawn alone again, once the device is done with the batch."""
        self._leave = None
        for slot in self.slots:
            slot.times = slot.own_times

    def _say_goodbye(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave(self)

    def _allocate(self, constants: FrameConstants) -> None:
        keep, driver, layout = self._resources.keep, self._driver, self._layout
        self._stream = keep(driver.stream())
        self._buffers: dict[str, Buffer] = {
            name: keep(driver.buffer(size_bytes))
            for name, size_bytes in _sizes(self.size_px, layout, self._network).items()
        }
        for name in ("triangles", "layers", "uv", "reference"):
            array = getattr(constants, name)
            self._buffers[name] = keep(driver.buffer(array.nbytes))
            driver.upload(self._buffers[name], array)
        self._textures = [keep(driver.texture(pixels)) for pixels in constants.textures()]
        self._network.bind({name: self._buffers[name].address for name in (INPUT, OUTPUT)})
        self.slots = [
            FrameSlot(
                i, layout, keep(driver.mapped(layout.size_bytes)), keep(driver.event()), keep(driver.event())
            )
            for i in range(SLOTS)
        ]
        shared = self._shared_values(len(constants.triangles))
        self._steps = [
            (self._bound(BEFORE_NETWORK, values), self._bound(AFTER_NETWORK, values))
            for values in (shared | self._slot_values(slot) for slot in self.slots)
        ]
        self._resources.before_closing(self._stream.synchronize)
        self._resources.before_closing(driver.use)

    def _shared_values(self, triangles: int) -> dict[str, KernelArgument]:
        numbers = {
            "S": self.size_px,
            "n": self.size_px**2,
            "s": blocks_of(self.size_px),
            "cells": cells_of(self.size_px),
            "count": triangles,
        }
        header = self._buffers["header"].address
        in_header = {
            name: header + section.offset
            for name, section in self._layout.sections.items()
            if section.offset < self._layout.header_bytes
        }
        addresses = {name: buffer.address for name, buffer in self._buffers.items()} | in_header
        handles = {f"t{i}": texture.handle for i, texture in enumerate(self._textures)}
        values: dict[str, KernelArgument] = {name: np.int32(number) for name, number in numbers.items()}
        values.update({name: np.uint64(address) for name, address in (addresses | handles).items()})
        return values

    def _slot_values(self, slot: FrameSlot) -> dict[str, KernelArgument]:
        return {
            name: np.uint64(slot.block.address + section.offset)
            for name, section in self._layout.sections.items()
            if section.offset >= self._layout.header_bytes
        }

    def _bound(self, specs: Sequence[KernelSpec], values: Mapping[str, KernelArgument]) -> list[_Step]:
        program = self._driver.program(self._network.inputs[INPUT].dtype, self._network.outputs[OUTPUT].dtype)
        return [
            _Step(program.kernel(spec.name), spec.blocks, spec.threads, [values[n] for n in spec.arguments])
            for spec in specs
        ]

    def _warm_up(self) -> None:
        """Run everything once: libraries choose, compile and allocate in their first run."""
        for slot in self.slots:
            slot.set_to_nothing()
            self.record(self._stream, slot.index)
            self._stream.synchronize()

    def _captured(self, slot: FrameSlot) -> Graph:
        graph = self._driver.capture(self._stream, lambda: self.record(self._stream, slot.index))
        return self._resources.keep(graph)


def _check_network(network: GraphNetwork, size_px: int) -> None:
    """Raise ValueError unless the network's tensors are a canvas and a picture of this size."""
    plane = (1, size_px, size_px)
    for specs, name, shape in (
        (network.inputs, INPUT, (*plane, CANVAS_CHANNELS)),
        (network.outputs, OUTPUT, (*plane, PICTURE_CHANNELS)),
    ):
        spec = specs.get(name)
        if spec is None or len(specs) != 1 or spec.shape != shape:
            raise ValueError(f"the network must have one tensor '{name}' of {list(shape)}, got {dict(specs)}")
        if spec.dtype not in (np.float16, np.float32):
            raise ValueError(f"the network's '{name}' must be float16 or float32, got {spec.dtype}")


def _sizes(size_px: int, layout: FrameLayout, network: GraphNetwork) -> dict[str, int]:
    """Bytes of what lives on the device from kernel to kernel."""
    pixels, blocks, luma = size_px**2, blocks_of(size_px) ** 2, MAX_SIDE**2
    return {
        "header": layout.header_bytes,
        **{prefix + plane: luma if plane == "y" else luma // 4 for prefix in "rb" for plane in "yuv"},
        **dict.fromkeys(("crop", "bent", "rgb", "matched"), 3 * pixels),
        "vis": 8 * pixels,
        "teeth": 4 * pixels,
        INPUT: pixels * CANVAS_CHANNELS * network.inputs[INPUT].dtype.itemsize,
        OUTPUT: pixels * PICTURE_CHANNELS * network.outputs[OUTPUT].dtype.itemsize,
        **dict.fromkeys(("mask", "alpha", "wmask"), 4 * pixels),
        **dict.fromkeys(("sums", "rows"), 16 * blocks),
        "offset": 12 * blocks,
    }
