"""One stream in real time: 25 frames a second arrive, each with its sound, whether we are ready or not.

Latency is from a frame's arrival to its dub: tracking, sound, painting, and waiting for the frames before
it.
"""

import time

from benchmarks.bodies import FRAME_MS, Stream, StreamRun
from benchmarks.common import Settings, summarise
from benchmarks.load import load_between, read_counters
from benchmarks.painters import Variant, in_turn, tracking_skipped
from benchmarks.schema import Load, Result

SUITE = "pipeline"
WARM_FRAMES = 25
QUICK_FRAMES = 4
LEAD_NS = 50_000_000


def run(settings: Settings) -> list[Result]:
    """See the module.

    Raises:
        ValueError: an unknown backend.
    """
    results: list[Result] = []
    for variant in in_turn(settings, SUITE):
        results += _measured(variant, settings)
    return results


def _measured(variant: Variant, settings: Settings) -> list[Result]:
    frames = QUICK_FRAMES if settings.quick else max(1, round(settings.seconds * 1000 / FRAME_MS))
    stream = Stream(variant.backend, variant.precision, settings.seed)
    if stream.tracker is None:
        tracking_skipped(settings, SUITE)
    warm = 1 if settings.quick else WARM_FRAMES
    for _ in range(warm):
        stream.frame()
    before = read_counters()
    done = stream.run(time.monotonic_ns() + LEAD_NS, frames)
    load = load_between(before, read_counters())
    stream.close()
    return rows(SUITE, f"{variant.label}: arrival to dub", done, load, warm, _about(variant))


def _about(variant: Variant) -> dict[str, str | int | float]:
    return {"backend": variant.backend, "variant": variant.label}


def rows(
    suite: str,
    name: str,
    done: StreamRun,
    load: Load | None,
    warmup: int,
    parameters: dict[str, str | int | float],
) -> list[Result]:
    """Latency with its deadline, and what a frame costs in CPU time."""
    frames = len(done.latency_ms)
    share = done.cpu_s / done.wall_s if done.wall_s > 0 else 0.0
    about = parameters | {"cpu_share": round(share, 4), "dubbed_share": round(done.dubbed / frames, 4)}
    latency = summarise(
        suite, name, done.latency_ms, clock="wall", warmup=warmup, deadline_ms=FRAME_MS,
        parameters=about, load=load, at_s=done.at_s,
    )  # fmt: skip
    cpu = summarise(
        suite,
        name,
        done.cpu_ms,
        clock="process_cpu",
        warmup=warmup,
        parameters=about,
        load=load,
        at_s=done.at_s,
    )
    return [latency, cpu]
