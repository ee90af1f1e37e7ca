"""Which backends can paint here, and why the others cannot: none is left out in silence."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from benchmarks.common import Settings
from benchmarks.schema import BackendRow, Skipped
from engine.backends import Precision, WantedPrecision, available, backend_names, choose_precision
from engine.errors import LivedubError

GPU_NAMES = ("tensorrt", "cuda-torch")
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


def painter_names() -> tuple[str, ...]:
    """All names that `--backend` takes."""
    return (*backend_names(), *(name for name in GPU_NAMES if name not in backend_names()))


def backend_rows() -> list[BackendRow]:
    """Every backend and what becomes of it here."""
    rows = [
        BackendRow(name=one.name, available=one.available, version=one.version, detail=one.detail)
        for one in available()
        if one.name not in GPU_NAMES
    ]
    for name in GPU_NAMES:
        reason = gpu_reason(name)
        rows.append(
            BackendRow(name=name, available=not reason, version="", detail=reason or "one CUDA graph")
        )
    return rows


@cache
def gpu_reason(name: str) -> str:
    """Why a GPU backend cannot paint here; "" if it can. Found out by trying."""
    from engine.painting import open_painter
    from tests.support.toy_actor import toy_actor

    try:
        open_painter(toy_actor("random"), name).close()
    except (LivedubError, ValueError) as error:
        return str(error) or type(error).__name__
    return ""


def variants(settings: Settings, suite: str, *, every_precision: bool = False) -> Iterator[Variant]:
    """The ways to paint that a suite shall measure; the others are told to `settings.skipped`.

    Args:
        settings: of the run.
        suite: who asks.
        every_precision: all that a backend offers; else the one that it chooses itself.

    Raises:
        ValueError: an unknown backend.
    """
    if settings.backend is not None and settings.backend not in painter_names():
        raise ValueError(f"unknown backend '{settings.backend}'; known: {', '.join(painter_names())}")
    for row in backend_rows():
        if settings.backend not in (None, row.name):
            continue
        if settings.backend is None and row.name == ORACLE:
            settings.skipped.append(
                _skip(suite, ORACLE, "the slow oracle; measured only with --backend reference")
            )
        elif not row.available:
            settings.skipped.append(_skip(suite, row.name, row.detail))
        elif row.name in GPU_NAMES:
            yield Variant(row.name, "auto", row.name)
        else:
            for precision in _precisions(row.name, every=every_precision):
                yield Variant(row.name, precision, f"{row.name} {precision}")


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
