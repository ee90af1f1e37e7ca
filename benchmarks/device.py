"""Time on a device: between two of its events, and how long the host takes to hand the work over.

A painter that draws on a device shows both by having `submit`, `finish` and `device_ms`. If handing over
takes as long as the work itself, the work was not captured as one graph.
"""

import gc
import time
from functools import partial

from benchmarks.bodies import FRAME_MS
from benchmarks.common import Settings, Timing, results_of, summarise
from benchmarks.load import load_between, read_counters
from benchmarks.schema import Result
from engine.image.yuv import I420
from engine.painting import HeadToPaint, Painter
from engine.painting.gpu import GpuPainter, Painting

_NS_PER_MS = 1e6


def measure_device(
    painter: GpuPainter, image: I420, head: HeadToPaint, settings: Settings, runs: int, *, eager: bool = False
) -> tuple[Timing, list[float], list[float]]:
    """One frame after the other: the host's times, the device's, and those of handing over, ms.

    Args:
        painter: on the device.
        image: painted in place.
        head: where and what.
        settings: of the run.
        runs: frames that count, at least.
        eager: launch the steps one by one instead of the graph.

    Raises:
        ValueError: the head is outside the picture.
        BackendError: the device failed.
    """
    for _ in range(settings.warmup):
        painter.finish(_handed_over(painter, image, head, eager=eager))
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
            painting = _handed_over(painter, image, head, eager=eager)
            handed_ns = time.perf_counter_ns()
            painter.finish(painting)
            wall.append((time.perf_counter_ns() - start_ns) / _NS_PER_MS)
            cpu.append((time.process_time_ns() - cpu_ns) / _NS_PER_MS)
            enqueue.append((handed_ns - start_ns) / _NS_PER_MS)
            device.append(painting.slot.device_ms)
    finally:
        if collecting:
            gc.enable()
    load = load_between(before, read_counters())
    return Timing(tuple(wall), tuple(cpu), settings.warmup, load), device, enqueue


def _handed_over(painter: GpuPainter, image: I420, head: HeadToPaint, *, eager: bool) -> Painting:
    painting = painter.fill_in(image, head)
    if painting is None:
        raise ValueError("the head is outside the picture")
    painter.graph.submit(painting.slot, eager=eager)
    return painting


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
    if not isinstance(painter, GpuPainter):
        timing = settings.measure(lambda: painter.paint(image, head), runs=runs)
        return results_of(suite, name, timing, deadline_ms=FRAME_MS, parameters=parameters)
    results = []
    for eager in (False, True):
        label = f"{name}, step by step" if eager else name
        timing, device, enqueue = measure_device(painter, image, head, settings, runs, eager=eager)
        results += results_of(suite, label, timing, deadline_ms=FRAME_MS, parameters=parameters)
        results += device_results(suite, label, timing, device, enqueue, parameters)
    return results
