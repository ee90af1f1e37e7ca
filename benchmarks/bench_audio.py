"""Lips from 40 ms of sound, by backend and by how many streams are computed together as one batch."""

import numpy as np

from benchmarks.bodies import FRAME_MS, LOOK_AHEAD_MS
from benchmarks.common import Settings, results_of
from benchmarks.painters import variants
from benchmarks.schema import Result, Skipped
from engine.errors import BackendError
from engine.expression.audio import MEL_BANDS, MELS_PER_STEP, SILENCE, AudioToExpression

SUITE = "audio"
STREAMS = (1, 2, 4, 8, 16)


def run(settings: Settings) -> list[Result]:
    """See the module.

    Raises:
        ValueError: an unknown backend.
    """
    counts = STREAMS[: 1 if settings.quick else None]
    chosen = list(variants(settings, SUITE))
    results: list[Result] = []
    for index, variant in enumerate(chosen):
        backend = variant.backend
        if variant.on_device:
            reason = "sound on this backend is a graph of its own, which no suite measures yet"
            settings.skipped.append(Skipped(suite=SUITE, name=backend, reason=reason))
            continue
        settings.on_progress(f"{SUITE}: {backend}", index, len(chosen))
        try:
            network = AudioToExpression(LOOK_AHEAD_MS, backend=backend)
        except BackendError as error:
            settings.skipped.append(Skipped(suite=SUITE, name=backend, reason=str(error)))
            continue
        for streams in counts:
            results += _measured(network, backend, streams, settings)
    return results


def _measured(network: AudioToExpression, backend: str, streams: int, settings: Settings) -> list[Result]:
    random = np.random.default_rng(settings.seed)
    mels = random.normal(SILENCE / 2, 2, (streams, MELS_PER_STEP, MEL_BANDS)).astype(np.float32)
    state = network.initial_state(streams)

    def step() -> None:
        nonlocal state
        _, state = network.step(mels, state)

    name = f"{backend} f32: 40 ms of {streams} stream{'s' * (streams > 1)}"
    parameters: dict[str, str | int | float] = {
        "backend": backend,
        "variant": f"{backend} f32",
        "streams": streams,
    }
    return results_of(SUITE, name, settings.measure(step), deadline_ms=FRAME_MS, parameters=parameters)
