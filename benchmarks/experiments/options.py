"""What an experiment is run with."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FOOTAGE_VARIABLE = "LIVEDUB_DATA"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What an experiment is run with; None takes the experiment's own default.

    Attributes:
        data: folder of footage with a manifest.csv; None looks where the tests look.
        out: folder of results; None is this version's in `benchmarks/results`.
        clips: names of the clips, of people whom no prior knows.
        seconds: amounts of data; 0 is one picture. Each clip takes those it allows, and all it has.
        steps: of optimisation in each adaptation.
        seed: of everything random.
        priors: folders of priors to compare, as `livedub train prior` writes them.
        people: train priors of so many people, too, and compare them.
        prior_steps: of that training.
        training_set: what to train them on; None takes `data`.
        minutes: begin no more adaptations after so long; the next run goes on.
        fresh: make again what is there already.
        quick: prove only that it works, on a made-up person; nothing is kept.
    """

    data: Path | None = None
    out: Path | None = None
    clips: Sequence[str] | None = None
    seconds: Sequence[float] | None = None
    steps: int | None = None
    seed: int = 0
    priors: Sequence[Path] = ()
    people: Sequence[int] = ()
    prior_steps: int = 300
    training_set: Path | None = None
    minutes: float | None = None
    fresh: bool = False
    quick: bool = False


def footage_folder(options: Options) -> Path:
    """Where the footage is.

    Raises:
        InputError: it is not there.
    """
    beside = ROOT.parent / "shared" / "data"
    folder = options.data or Path(os.environ.get(FOOTAGE_VARIABLE) or beside)
    if not folder.is_dir():
        raise InputError(f"no footage at {folder}: give --data, or set {FOOTAGE_VARIABLE}")
    return folder


def results_folder(options: Options) -> Path:
    """Where results go."""
    if options.out is not None:
        return options.out
    try:
        return ROOT / "benchmarks" / "results" / version("livedub")
    except PackageNotFoundError:
        return ROOT / "benchmarks" / "results" / "unknown"
