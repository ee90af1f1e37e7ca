"""Lips from 40 ms of sound, by backend and by how many streams are computed together as one batch.

On a GPU one stream is measured: a graph with its state on the device, from filling in to reading out.
"""

from collections.abc import Callable
from contextlib import closing

import numpy as np

from benchmarks.bodies import FRAME_MS, LOOK_AHEAD_MS
from benchmarks.common import Settings, results_of
from benchmarks.device_capacity import capturing_for, open_cuda
from benchmarks.painters import in_turn
from benchmarks.schema import Result, Skipped
from engine.arrays import F32
from engine.backends import Precision
from engine.backends.cuda.audio import AudioGraph
from engine.backends.cuda.driver import Driver, GraphNetwork
from engine.errors import BackendError
from engine.expression.audio import (
    LOOK_AHEADS_MS,
    MEL_BANDS,
    MELS_PER_STEP,
    SILENCE,
    AudioToExpression,
    shipped_model,
)
from engine.painting import CUDA_TORCH

SUITE = "audio"
STREAMS = (1, 2, 4, 8, 16)
OpenNetwork = Callable[[bytes, Precision, Driver], GraphNetwork]


def run(settings: Settings) -> list[Result]:
    """See the module.

    Raises:
        ValueError: an unknown backend.
    """
    counts = STREAMS[: 1 if settings.quick else None]
    results: list[Result] = []
    for variant in in_turn(settings, SUITE):
        backend = variant.backend
        try:
            if variant.on_device:
                with closing(open_cuda()) as driver:
                    graphs = capturing_for(backend, driver)
                    results += measured_on_device(backend, settings, graphs, _opening(backend))
                continue
            network = AudioToExpression(LOOK_AHEAD_MS, backend=backend)
        except BackendError as error:
            settings.skipped.append(Skipped(suite=SUITE, name=backend, reason=str(error)))
            continue
        for streams in counts:
            results += _measured(network, backend, streams, settings)
    return results


def measured_on_device(
    backend: str, settings: Settings, driver: Driver, open_network: OpenNetwork
) -> list[Result]:
    """One stream on a device.

    Raises:
        BackendError: it cannot run here.
    """
    first = AudioToExpression(LOOK_AHEAD_MS).initial_state(1)
    initial = {name: array[0] for name, array in first.items()}
    network = open_network(shipped_model(), "f32", driver)
    with closing(AudioGraph(driver, network, initial)) as graph:
        mels, code = _mels(1, settings), np.array(LOOK_AHEADS_MS) == LOOK_AHEAD_MS

        def step() -> None:
            slot = graph.begin()
            slot.inputs["mels"][:], slot.inputs["code"][:], slot.inputs["style"][:] = mels, code, 0
            graph.submit(slot)
            graph.finish(slot)

        return _rows(backend, 1, settings, step)


def _opening(backend: str) -> OpenNetwork:
    if backend == CUDA_TORCH:
        from engine.backends import cuda_torch

        return cuda_torch.open_graph_network
    from engine.backends import tensorrt_gpu

    return tensorrt_gpu.open_graph_network


def _measured(network: AudioToExpression, backend: str, streams: int, settings: Settings) -> list[Result]:
    mels, state = _mels(streams, settings), network.initial_state(streams)

    def step() -> None:
        nonlocal state
        _, state = network.step(mels, state)

    return _rows(backend, streams, settings, step)


def _mels(streams: int, settings: Settings) -> F32:
    random = np.random.default_rng(settings.seed)
    return random.normal(SILENCE / 2, 2, (streams, MELS_PER_STEP, MEL_BANDS)).astype(np.float32)


def _rows(backend: str, streams: int, settings: Settings, step: Callable[[], None]) -> list[Result]:
    name = f"{backend} f32: 40 ms of {streams} stream{'s' * (streams > 1)}"
    parameters: dict[str, str | int | float] = {
        "backend": backend,
        "variant": f"{backend} f32",
        "streams": streams,
    }
    return results_of(SUITE, name, settings.measure(step), deadline_ms=FRAME_MS, parameters=parameters)
