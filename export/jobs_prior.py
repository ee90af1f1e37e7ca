"""The job behind `livedub train prior`: footage or a training set in, the rendering prior out.

From a training set it needs no media library, tracker or downloaded model; see `export.train_prior_job`.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from engine.errors import AssetError, BackendUnavailable, InputError
from engine.face.model import load_face_model
from export.perceptual import Perceptual, load_perceptual
from export.plots import plot_log
from export.prior_assets import export_prior
from export.prior_net import TIERS
from export.train_prior import Prior, Progress, load_checkpoint, save_checkpoint, start_textures, train
from export.training_set import OnProgress, PackedClip, face_clips, open_data, trainable

LOG_EVERY, CHECKPOINT_EVERY = 100, 200
PRIOR_STEPS = 3200

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PriorOptions:
    """How to train.

    Attributes:
        tier: a name of `TIERS`.
        steps: of optimisation; None is the tier's own number.
        seed: of everything random.
        resume: a checkpoint to go on from.
        device: where; None is a GPU if torch sees one.
        people: only this many identities, the first of a shuffle by the seed; None is everybody.
        perceptual: file of the perceptual distance's weights; None looks in the cache.
    """

    tier: str = "cpu"
    steps: int | None = None
    seed: int = 0
    resume: Path | None = None
    device: Literal["cpu", "cuda"] | None = None
    people: int | None = None
    perceptual: Path | None = None


@dataclass(frozen=True)
class PriorReport:
    """What the prior was trained on and the PSNR of frames of its own people that it did not see, dB."""

    tier: str
    device: str
    clips: int
    people: int
    frames: int
    steps: int
    perceptual_loss: bool
    held_out_hole_psnr_db: float
    held_out_mouth_psnr_db: float


def train_prior(data: Path, out: Path, options: PriorOptions, *, on_progress: OnProgress) -> PriorReport:
    """Train a prior and write its files into the folder `out`, with a checkpoint, a log and its plot.

    Raises:
        InputError: no clip shows a large enough face, the set cannot be read, or the checkpoint is of
            other clips.
        BackendUnavailable: there is no such device.
    """
    torch.manual_seed(options.seed)
    device = chosen_device(options.device)
    model, tier = load_face_model(), TIERS[options.tier]
    packed = choose(open_data(data, size_px=tier.size_px, on_progress=on_progress), options)
    if not packed:
        raise InputError(
            f"no training clip in {data} shows a face that is large enough; see `livedub doctor`"
        )
    out.mkdir(parents=True, exist_ok=True)
    files = _Files(out, tier.name)
    names = [one.clip.path.as_posix() for one in packed]
    if options.resume:
        check_same_clips(options.resume, names)
    clips = face_clips(packed, model, size_px=tier.size_px, on_progress=on_progress)
    prior, first = Prior(tier, len(clips)), 0
    if options.resume:
        first = load_checkpoint(prior, options.resume)
    else:
        start_textures(prior, clips, model)
    clip_list(files.checkpoint).write_text(json.dumps(names))
    start_log(files.log, first)
    perceptual = _perceptual(options.perceptual)
    total = options.steps or PRIOR_STEPS
    lines: list[Progress] = []
    train(
        prior.to(device),
        clips,
        model,
        steps=total,
        first_step=first,
        seed=options.seed,
        perceptual=None if perceptual is None else perceptual.to(device),
        on_progress=_follower(prior, files, lines, total, on_progress),
        every=min(LOG_EVERY, total),
    )
    save_checkpoint(prior, files.checkpoint, total)
    identities = sorted({clip.identity for clip in clips})
    export_prior(prior.cpu(), out, identities=identities)
    nothing = float("nan")
    last = lines[-1] if lines else Progress(total, nothing, nothing, nothing)
    return PriorReport(
        tier=tier.name,
        device=str(device),
        clips=len(clips),
        people=len(identities),
        frames=sum(len(clip) for clip in clips),
        steps=total,
        perceptual_loss=perceptual is not None,
        held_out_hole_psnr_db=last.psnr_db,
        held_out_mouth_psnr_db=last.mouth_psnr_db,
    )


def choose(packed: Sequence[PackedClip], options: PriorOptions) -> list[PackedClip]:
    """What to train on, in the set's order: with crops, of nobody held out, of as many people as asked."""
    usable = [one for one in trainable(packed) if len(one.film)]
    people = sorted({one.clip.identity for one in usable})
    shuffled = np.random.default_rng(options.seed).permutation(len(people))
    chosen = {people[index] for index in shuffled[: options.people]}
    return [one for one in usable if one.clip.identity in chosen]


def chosen_device(wanted: Literal["cpu", "cuda"] | None) -> torch.device:
    """The device; a GPU where there is one if nothing is wanted.

    Raises:
        BackendUnavailable: CUDA is wanted and torch sees none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable(f"torch {torch.__version__} sees no CUDA device; use --device cpu")
    return torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))


def clip_list(checkpoint: Path) -> Path:
    """The file beside a checkpoint that says which clip each of its textures belongs to."""
    return checkpoint.with_name(checkpoint.name.removesuffix(".checkpoint.safetensors") + ".clips.json")


def check_same_clips(checkpoint: Path, names: Sequence[str]) -> None:
    """Refuse a checkpoint whose textures belong to other clips.

    Raises:
        InputError: as said; without a list of clips beside it nothing is refused.
    """
    try:
        known = json.loads(clip_list(checkpoint).read_text())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{clip_list(checkpoint)}: cannot be read: {error}") from error
    if known != list(names):
        raise InputError(
            f"{checkpoint} was trained on {len(known)} clips that are not these {len(names)}; "
            "give the same --data, --people and --seed"
        )


def start_log(path: Path, first_step: int) -> None:
    """Begin a log, or keep what an interrupted one has up to the step to go on from."""
    header = ",".join(field.name for field in fields(Progress))
    kept: list[str] = []
    if first_step and path.exists():
        lines = path.read_text().splitlines()[1:]
        kept = [line for line in lines if int(line.partition(",")[0] or 0) <= first_step]
    path.write_text("\n".join([header, *kept]) + "\n")


@dataclass(frozen=True)
class _Files:
    folder: Path
    tier: str

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"prior_{self.tier}.checkpoint.safetensors"

    @property
    def log(self) -> Path:
        return self.folder / f"prior_{self.tier}.csv"

    @property
    def plot(self) -> Path:
        return self.folder / f"prior_{self.tier}.png"


def _follower(
    prior: Prior, files: _Files, lines: list[Progress], total: int, on_progress: OnProgress
) -> Callable[[Progress], None]:
    def follow(line: Progress) -> None:
        lines.append(line)
        with files.log.open("a") as file:
            file.write(",".join(str(value) for value in asdict(line).values()) + "\n")
        if line.step % CHECKPOINT_EVERY == 0:
            save_checkpoint(prior, files.checkpoint, line.step)
        plot_log(files.log, files.plot)
        on_progress("train", line.step, total)

    return follow


def _perceptual(path: Path | None) -> Perceptual | None:
    try:
        return load_perceptual(path)
    except AssetError as error:
        if path is not None:
            raise
        log.warning("training goes on without the perceptual loss: %s", error)
        return None
