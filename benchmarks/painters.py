"""Which backends can paint here, and why the others cannot: none is left out in silence."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.common import Settings
from benchmarks.schema import BackendRow, Skipped
from engine.actor.pack import ActorPack
from engine.backends import Precision, WantedPrecision, available, backend_names, choose_precision
from engine.backends.cuda.driver import Driver
from engine.errors import BackendError, BackendUnavailable
from engine.painting import GPU_BACKENDS, TENSORRT, Painter, open_gpu_painter, open_painter

ORACLE = "reference"


@dataclass(frozen=True)
class Variant:
    """One way to paint.

    Attributes:
        backend: as `open_painter` takes it.
        precision: likewise.
        label: of both, for tables.
    """

    backend: str
    precision: WantedPrecision
    label: str

    @property
    def on_device(self) -> bool:
        """Whether a GPU does it."""
        return self.backend in GPU_BACKENDS


def opened(
    actor: ActorPack, backend: str | None, precision: WantedPrecision, driver: Driver | None = None
) -> Painter:
    """A painter; a made-up actor's TensorRT engine is built first, where it was not on an earlier day.

    Args:
        actor: the pack.
        backend: None is the best one of the CPU.
        precision: of the network.
        driver: the device, shared; None opens one, if it is a device's backend.

    Raises:
        BackendError: it cannot run here.
    """

    def once() -> Painter:
        if backend is None or driver is None:
            return open_painter(actor, backend, precision=precision)
        return open_gpu_painter(actor, driver, backend, precision=precision)

    try:
        return once()
    except BackendUnavailable:
        raise
    except BackendError:
        if backend != TENSORRT:
            raise
    _build(actor, precision)
    return once()


def _build(actor: ActorPack, precision: WantedPrecision) -> None:
    from export.tensorrt_build import build_actor

    chosen = choose_precision(TENSORRT, precision, integers=False)
    if chosen == "int8":
        raise BackendUnavailable(f"backend '{TENSORRT}' has no int8")
    build_actor(actor, chosen, None, lambda stage, done, total: None)


def backend_rows() -> list[BackendRow]:
    """Every backend and what becomes of it here."""
    return [
        BackendRow(name=one.name, available=one.available, version=one.version, detail=one.detail)
        for one in available()
    ]


def variants(settings: Settings, suite: str, *, every_precision: bool = False) -> Iterator[Variant]:
    """The ways to paint that a suite shall measure; the others are told to `settings.skipped`.

    Args:
        settings: of the run.
        suite: who asks.
        every_precision: all that a backend offers; else the one that it chooses itself.

    Raises:
        ValueError: an unknown backend.
    """
    if settings.backend is not None and settings.backend not in backend_names():
        raise ValueError(f"unknown backend '{settings.backend}'; known: {', '.join(backend_names())}")
    for row in backend_rows():
        if settings.backend not in (None, row.name):
            continue
        if settings.backend is None and row.name == ORACLE:
            settings.skipped.append(
                _skip(suite, ORACLE, "the slow oracle; measured only with --backend reference")
            )
        elif not row.available:
            settings.skipped.append(_skip(suite, row.name, row.detail))
        else:
            for precision in _precisions(row.name, every=every_precision):
                yield Variant(row.name, precision, f"{row.name} {precision}")


def in_turn(settings: Settings, suite: str, *, every_precision: bool = False) -> Iterator[Variant]:
    """The `variants`, each told as progress before it is measured.

    Raises:
        ValueError: an unknown backend.
    """
    chosen = list(variants(settings, suite, every_precision=every_precision))
    for index, variant in enumerate(chosen):
        settings.on_progress(f"{suite}: {variant.label}", index, len(chosen))
        yield variant


def _precisions(backend: str, *, every: bool) -> tuple[Precision, ...]:
    if not every:
        return (choose_precision(backend, integers=True),)
    return next(status.precisions for status in available() if status.name == backend)


def _skip(suite: str, name: str, reason: str) -> Skipped:
    return Skipped(suite=suite, name=name, reason=reason)


def tracking_skipped(settings: Settings, suite: str) -> None:
    """Say that frames were measured without tracking."""
    settings.skipped.append(
        _skip(suite, "tracking", "the face models are missing: `livedub doctor --fetch`; frames go without")
    )
