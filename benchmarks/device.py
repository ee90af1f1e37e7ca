"""Time on a device: between two of its events, and how long the host takes to hand the work over.

A painter that draws on a device shows both by having `submit`, `finish` and `device_ms`. If handing over
takes as long as the work itself, the work was not captured as one graph.
"""

import gc
import time
from functools import partial
from typing import Any, Protocol, runtime_checkable

from benchmarks.bodies import FRAME_MS
from benchmarks.common import Settings, Timing, results_of, summarise
from benchmarks.load import load_between, read_counters
from benchmarks.schema import Result
from engine.image.yuv import I420
from engine.painting import HeadToPaint, Painter

_NS_PER_MS = 1e6


@runtime_checkable
class DevicePainter(Protocol):
    """A painter whose work can be handed over and waited for apart."""

    def submit(self, image: I420, head: HeadToPaint) -> Any:
        """Hand a frame over; the ticket is for `finish`."""

    def finish(self, ticket: Any) -> None:
        """Wait for it, and write the frame."""

    @property
    def device_ms(self) -> float:
        """Of the last frame that is finished, between its first and its last event."""


def measure_device(
    painter: DevicePainter, image: I420, head: HeadToPaint, settings: Settings, runs: int
) -> tuple[Timing, list[float], list[float]]:
    """One frame after the other: the host's times, the device's, and those of handing over, ms."""
    for _ in range(settings.warmup):
        painter.finish(painter.submit(image, head))
    wall: list[float] = []
    cpu: list[float] = []
    device: list[float] = []
    enqueue: list[float] = []
    collecting = gc.isenabled()
    gc.disable()
    before = read_counters()
    until_ns = time.perf_counter_ns() + (0 if settings.quick else settings.at_least_s * 1e9)
    try:
        while len(wall) < runs or time.perf_counter_ns() < until_ns:
            cpu_ns, start_ns = time.process_time_ns(), time.perf_counter_ns()
            ticket = painter.submit(image, head)
            handed_ns = time.perf_counter_ns()
            painter.finish(ticket)
            wall.append((time.perf_counter_ns() - start_ns) / _NS_PER_MS)
            cpu.append((time.process_time_ns() - cpu_ns) / _NS_PER_MS)
            enqueue.append((handed_ns - start_ns) / _NS_PER_MS)
            device.append(painter.device_ms)
    finally:
        if collecting:
            gc.enable()
    load = load_between(before, read_counters())
    return Timing(tuple(wall), tuple(cpu), settings.warmup, load), device, enqueue


def device_results(
    suite: str,
    name: str,
    timing: Timing,
    device: list[float],
    enqueue: list[float],
    parameters: dict[str, str | int | float],
) -> list[Result]:
    """The two results beside the host's."""
    shared = partial(summarise, suite, name, warmup=timing.warmup, load=timing.load, parameters=parameters)
    return [shared(device, clock="device"), shared(enqueue, clock="enqueue")]


def painting_results(
    suite: str,
    name: str,
    painter: Painter,
    picture: tuple[I420, HeadToPaint],
    settings: Settings,
    parameters: dict[str, str | int | float],
) -> list[Result]:
    """Painting one head again and again, on whatever the painter works on."""
    runs, (image, head) = max(1, settings.runs // 2), picture
    if isinstance(painter, DevicePainter):
        timing, device, enqueue = measure_device(painter, image, head, settings, runs)
        on_device = device_results(suite, name, timing, device, enqueue, parameters)
    else:
        timing, on_device = settings.measure(lambda: painter.paint(image, head), runs=runs), []
    return [*results_of(suite, name, timing, deadline_ms=FRAME_MS, parameters=parameters), *on_device]
