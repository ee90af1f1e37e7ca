"""Train the rendering prior where livedub's command line cannot be: `engine/` and `export/` are enough.

    python -m export.train_prior_job SET.safetensors --tier cpu --device cuda -o DIR

It needs torch, numpy, numba, opencv-python-headless, onnx, onnxruntime, safetensors and matplotlib, and no
network. The perceptual loss takes a file that does not come with livedub; give it with --perceptual, or in
LIVEDUB_CACHE, or training goes on without that term and says so.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from engine.errors import LivedubError
from export.jobs_prior import PriorOptions, train_prior
from export.prior_net import TIERS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m export.train_prior_job", description="Train the prior.")
    parser.add_argument("data", type=Path, help="training set (or folder of footage, with livedub installed)")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--tier", choices=sorted(TIERS), default="cpu")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, help="checkpoint of an interrupted training")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--people", type=int, help="train on only so many people")
    parser.add_argument("--perceptual", type=Path, help="weights of the perceptual distance")
    known = vars(parser.parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = PriorOptions(**{field.name: known[field.name] for field in fields(PriorOptions)})
    try:
        report = train_prior(known["data"], known["out"], options, on_progress=_say)
    except LivedubError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(report), indent=1) + "\n")
    return 0


def _say(stage: str, done: int, total: int | None) -> None:
    sys.stderr.write(f"... {stage}: {done} of {total}\n")


if __name__ == "__main__":
    sys.exit(main())
