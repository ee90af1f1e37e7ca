"""Run as a process of its own, on the driver of stub_libcuda.c: `python -m tests.support.drive_cuda WHAT`.

Writes what happened as JSON to standard output.
"""

import json
import os
import sys
from collections.abc import Mapping

import numpy as np

from engine.backends.cuda.cuda_core import CudaDriver
from engine.backends.cuda.frame import FrameConstants, FrameGraph
from engine.backends.network import Precision, TensorSpec
from engine.errors import BackendError

SIZE_PX = 32
HALF = np.dtype(np.float16)


class NoNetwork:
    """A network that does nothing."""

    name = "nothing"

    def __init__(self) -> None:
        self.precision: Precision = "f32"
        self.inputs = {"canvas": TensorSpec("canvas", (1, SIZE_PX, SIZE_PX, 23), HALF)}
        self.outputs = {"picture": TensorSpec("picture", (1, SIZE_PX, SIZE_PX, 4), HALF)}
        self.streams: set[int] = set()

    def bind(self, addresses: Mapping[str, int]) -> None: ...

    def enqueue(self, stream_handle: int) -> None:
        self.streams.add(stream_handle)

    def close(self) -> None: ...


def tour() -> dict[str, object]:
    """Every call of the driver once."""
    driver = CudaDriver()
    stream, first, last = driver.stream(), driver.event(), driver.event()
    buffer, mapped = driver.buffer(1000), driver.mapped(512)
    values, zeros = np.arange(250, dtype=np.float32), np.ones(250, np.float32)
    driver.download(buffer, zeros)
    driver.upload(buffer, values)
    back = np.zeros_like(values)
    driver.download(buffer, back)
    mapped.host[:] = 7
    texture = driver.texture(np.arange(8 * 4 * 4).reshape(8, 4, 4).astype(np.float16))
    program = driver.program(HALF, HALF)
    kernel = program.kernel("copy_in")
    arguments = (np.uint64(buffer.address), np.int32(-7), np.float32(0.5), np.uint64(texture.handle))
    driver.launch(stream, kernel, 12, 256, arguments)
    driver.copy(stream, buffer.address, mapped.address, 4)
    first.record(stream)

    def record() -> None:
        driver.copy(stream, buffer.address, mapped.address, 512)
        driver.launch(stream, kernel, 3, 32, arguments)

    graph = driver.capture(stream, record)
    graph.launch(stream)
    last.record(stream)
    last.wait()
    stream.wait_for(first)
    stream.synchronize()
    copied = np.zeros(4, np.uint8)
    driver.download(buffer, copied)
    found = {
        "info": [driver.info.name, driver.info.arch, driver.info.driver_version, driver.info.memory_bytes],
        "aligned": buffer.address % 256 == 0,
        "zeros": not zeros.any(),
        "back": bool((back == values).all()),
        "copied": copied.tolist(),
        "ms": last.ms_since(first),
        "done": last.done(),
        "free": driver.free_bytes(),
        "same program": driver.program(HALF, HALF) is program,
    }
    for thing in (graph, texture, mapped, buffer, first, last, stream):
        thing.close()
        thing.close()
    driver.close()
    return found


def frames() -> dict[str, object]:
    """Two frames of a frame graph."""
    driver = CudaDriver()
    network = NoNetwork()
    constants = FrameConstants(
        triangles=np.array([[0, 1, 2]], np.int32),
        layers=np.zeros(1, np.int32),
        uv=np.zeros((3, 2), np.float32),
        reference=np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8),
        texture=np.zeros((16, 8, 8), np.float16),
    )
    graph = FrameGraph(driver, constants, network)
    driver.free_bytes()
    for _ in range(2):
        slot = graph.begin()
        graph.submit(slot)
        graph.finish(slot)
    found: dict[str, object] = {"ms": slot.device_ms, "streams": len(network.streams)}
    graph.close()
    driver.close()
    return found


def failures(calls: list[str]) -> dict[str, object]:
    """What the tour raises when one of these calls of the driver fails."""
    found: dict[str, object] = {}
    for call in calls:
        os.environ["STUB_CUDA_FAILS"] = call
        try:
            tour()
        except BackendError as error:
            found[call] = [type(error).__name__, str(error)]
    return found


if __name__ == "__main__":
    what, *more = sys.argv[1:]
    result = failures(more) if what == "failures" else {"tour": tour, "frames": frames}[what]()
    sys.stdout.write(json.dumps(result))
