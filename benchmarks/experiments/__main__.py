"""`python -m benchmarks.experiments NAME`: one experiment with other clips, amounts, priors or time."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiments import data, parts, scale, speed
from benchmarks.experiments.options import Options
from engine.errors import InputError, LivedubError

EXPERIMENTS = {one.EXPERIMENT.name: one.EXPERIMENT for one in (data, speed, parts, scale)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 2 for wrong use, 1 if something is missing."""
    given = vars(_parser().parse_args(argv))
    experiment = EXPERIMENTS[given.pop("experiment")]
    from benchmarks.experiments.study import conduct, tell

    try:
        conduct(experiment, Options(**given), tell)
    except (ValueError, OSError, InputError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except LivedubError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "benchmarks.experiments", description="The paper's experiments. Each resumes where it was stopped."
    )
    parser.add_argument("experiment", choices=list(EXPERIMENTS))
    parser.add_argument("--data", type=Path, metavar="DIR", help="footage with a manifest.csv")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--clips", nargs="+", metavar="NAME", help="of people whom no prior knows")
    parser.add_argument("--seconds", nargs="+", type=float, help="amounts of data; 0 is one picture")
    parser.add_argument("--steps", type=int, help="of each adaptation")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (%(default)s)")
    parser.add_argument(
        "--priors", nargs="+", type=Path, default=(), metavar="DIR", help="to compare with the shipped one"
    )
    parser.add_argument(
        "--people", nargs="+", type=int, default=(), help="train and compare priors of so many"
    )
    parser.add_argument(
        "--prior-steps", type=int, default=Options.prior_steps, help="of that training (%(default)s)"
    )
    parser.add_argument("--training-set", type=Path, metavar="FILE", help="for that training; else --data")
    parser.add_argument("--minutes", type=float, help="begin no more adaptations after so long")
    parser.add_argument("--fresh", action="store_true", help="make again what is there already")
    parser.add_argument("--quick", action="store_true", help="only prove that it works; keeps nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
