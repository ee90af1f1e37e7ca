"""From nothing to the first frame, in a fresh process: imports, an actor, a frame; then steady.

Compiled code is in its caches, as on any second start of a machine; files are in the system's memory.
"""

from benchmarks.bodies import FRAME_MS
from benchmarks.common import Settings, summarise
from benchmarks.load import load_between, read_counters
from benchmarks.painters import Variant, variants
from benchmarks.schema import Clock, Load, Result, Skipped
from benchmarks.stream import Child, Ready
from engine.errors import BackendError

SUITE = "startup"
TIMES, QUICK_TIMES = 4, 1
STEADY_FRAMES, QUICK_FRAMES = 30, 3
SETTLING_FRAMES = 5  # after the first, not counted as steady


def run(settings: Settings) -> list[Result]:
    """See the module.

    Raises:
        ValueError: an unknown backend.
    """
    chosen = list(variants(settings, SUITE))
    times = QUICK_TIMES if settings.quick else TIMES
    results: list[Result] = []
    for index, variant in enumerate(chosen):
        starts = []
        before = read_counters()
        try:
            for start in range(times + (0 if settings.quick else 1)):  # the first fills caches
                settings.on_progress(f"{SUITE}: {variant.label}", index * times + start, len(chosen) * times)
                starts.append(_start(variant, settings))
        except BackendError as error:
            settings.skipped.append(Skipped(suite=SUITE, name=variant.label, reason=str(error)))
            continue
        after, spent_s = read_counters(), sum(one.spent_s for one in starts)
        own_s = spent_s + (after.own_s - before.own_s if before and after else 0.0)
        results += _rows(variant, starts[-times:], load_between(before, after, own_s))
    return results


def _start(variant: Variant, settings: Settings) -> Ready:
    steady = QUICK_FRAMES if settings.quick else SETTLING_FRAMES + STEADY_FRAMES
    with Child(variant.backend, variant.precision, settings.seed, steady) as child:
        return child.ready()


def _rows(variant: Variant, starts: list[Ready], load: Load | None) -> list[Result]:
    about: dict[str, str | int | float] = {"backend": variant.backend, "variant": variant.label}
    phases: list[tuple[str, list[float], list[float]]] = [
        (phase, [one.wall_ms[phase] for one in starts], [one.cpu_ms[phase] for one in starts])
        for phase in starts[0].wall_ms
    ]
    totals = [[sum(times.values()) for times in (one.wall_ms, one.cpu_ms)] for one in starts]
    phases.append(("from nothing to the first frame", [one[0] for one in totals], [one[1] for one in totals]))
    results = []
    for order, (phase, wall, cpu) in enumerate(phases):
        name, stage = f"{variant.label}: {phase}", about | {"stage": phase, "order": order}
        results += [_row(name, wall, "wall", stage, load), _row(name, cpu, "process_cpu", stage, load)]
    steady = [time_ms for one in starts for time_ms in one.steady_ms[SETTLING_FRAMES:] or one.steady_ms]
    results.append(
        summarise(
            SUITE, f"{variant.label}: a frame from then on", steady, clock="wall", warmup=SETTLING_FRAMES,
            deadline_ms=FRAME_MS, parameters=about, load=load,
        )
    )  # fmt: skip
    return results


def _row(
    name: str, samples: list[float], clock: Clock, about: dict[str, str | int | float], load: Load | None
) -> Result:
    return summarise(SUITE, name, samples, clock=clock, parameters=about, load=load)
