"""The renderer's network, one frame at a time, on every backend, precision and thread count.

The network has the renderer's shape and random weights: its time does not depend on their values. Compare
process CPU time: it is what a core has to give, whatever else the machine does.
"""

import sys
from collections.abc import Iterator

import numpy as np

from benchmarks.common import Settings, measure, results_of
from benchmarks.schema import Result
from engine.backends import (
    BackendStatus,
    Network,
    Precision,
    available,
    backend_names,
    load_network,
    quantised,
    rounded_tensors,
)
from tests.support import networks

SUITE = "backends"
_SIZES_PX = (192, 224, 256)
_THREADS = (1, 2)
_QUICK_SIZE_PX = 32
_CHANNELS = 23
_HEAD = "out.weight"
_FRAME_MS = 40.0  # 25 frames per second


def run(settings: Settings) -> list[Result]:
    """See the module.

    Raises:
        ValueError: an unknown backend.
        BackendUnavailable: the backend asked for is not installed.
    """
    results = []
    sizes_px, threads = ((_QUICK_SIZE_PX,), (1,)) if settings.quick else (_SIZES_PX, _THREADS)
    chosen = _chosen(settings.backend)
    for size_px in sizes_px:
        model = networks.unet(size_px=size_px, channels=_CHANNELS)
        integers = _integers(model)
        for status, precision, count in _variants(chosen, threads):
            graph = integers if precision == "int8" else model
            network = load_network(graph, backend=status.name, precision=precision, threads=count)
            results += _measured(network, size_px, count, settings)
            print(f"  {results[-1].name}: {results[-1].p50:.1f} ms of CPU", file=sys.stderr)
    return results


def _integers(model: bytes) -> bytes:
    """The network in int8, but for its head; any ranges do for its time."""
    keep = (_HEAD,)
    ranges = np.tile(np.array([-4, 4], np.float32), (len(rounded_tensors(model, keep)), 1))
    return quantised(model, ranges, keep)


def _chosen(backend: str | None) -> list[BackendStatus]:
    """The slow oracle is measured only when named."""
    if backend is None:
        return [status for status in available() if status.available and status.name != "reference"]
    if backend not in backend_names():
        raise ValueError(f"unknown backend '{backend}'; known: {', '.join(backend_names())}")
    return [status for status in available() if status.name == backend]


def _variants(
    chosen: list[BackendStatus], threads: tuple[int, ...]
) -> Iterator[tuple[BackendStatus, Precision, int]]:
    for status in chosen:
        for precision in status.precisions:
            for count in threads if status.name != "reference" else (1,):
                yield status, precision, count


def _measured(network: Network, size_px: int, threads: int, settings: Settings) -> list[Result]:
    feeds = networks.feeds_for({"x": (1, _CHANNELS, size_px, size_px)})
    out = network.run(feeds)
    timing = measure(lambda: network.run_into(feeds, out), settings.warmup, settings.runs)
    return results_of(
        SUITE,
        f"{network.name} {network.precision} {size_px} px {threads} thread{'s' * (threads > 1)}",
        timing,
        deadline_ms=_FRAME_MS,
        parameters={
            "backend": network.name, "precision": network.precision, "size_px": size_px, "threads": threads,
        },
    )  # fmt: skip
