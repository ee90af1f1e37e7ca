"""Adapt the prior to one person from seconds of video: `livedub adapt`.

First the texture: from the prior's mean, with the person's own colours laid out on it, the network held
still. Then texture and network together at a lower rate. A tenth of the frames is held out, the best state on
it is kept.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.actor.consent import ConsentRecord
from engine.actor.pack import ActorPack, Manifest, write_pack
from engine.arrays import F32, U8
from engine.errors import BackendUnavailable, MediaError
from engine.expression.audio import STYLE_SIZE
from engine.face.fit import Fitter, person_neutral
from engine.face.model import ASSET as FACE_MODEL_ASSET
from engine.face.model import INNER_LIPS, LANDMARKS, LIPS, FaceModel, load_face_model
from engine.face.track import to_rgb, track_video
from engine.media import open_video
from engine.render.renderer import PRIOR_ASSETS, asset_sha256
from export.adapt_metrics import Metrics, crop_metrics
from export.dataset import FaceClip, crop_clip
from export.losses import psnr_db, render_loss
from export.perceptual import load_perceptual
from export.prior_assets import PREFIX, load_prior
from export.prior_net import TIERS, Tier
from export.render_batch import NO_NOISE, TRAINING_NOISE, Batch, Noise, make_batch, reference_order, unproject
from export.train_prior import Prior

Progress = Callable[[str, int, int | None], None]

DEFAULT_STEPS, BATCH = 240, 6
TEXTURE_SHARE = 0.5  # of the steps, texture alone
TEXTURE_RATE, NET_RATE = 8e-3, 1e-4
HELD_OUT_SHARE, MIN_FRAMES = 0.1, 8
CHECK_EVERY = 40
MAX_FRAMES = 750


@dataclass(frozen=True)
class AdaptOptions:
    """What to learn from, and how long.

    Attributes:
        seconds: of video to use; None takes all of it, up to 60.
        start_s: where in the video to begin.
        steps: of optimisation.
        seed: of everything random.
        device: "cpu" or "cuda".
        face: the n-th face from the left, None the largest and most central.
        name: the actor's; None takes the output file's.
        consent: the person's record; None records the operator's own attestation.
    """

    seconds: float | None = None
    start_s: float = 0.0
    steps: int = DEFAULT_STEPS
    seed: int = 0
    device: str = "cpu"
    face: int | None = None
    name: str | None = None
    consent: ConsentRecord | None = None


@dataclass(frozen=True)
class AdaptReport:
    """What was done: seconds and frames used, steps, time, and held-out metrics before and after.

    The metrics have the names of `livedub evaluate`; null is what crops alone cannot tell.
    """

    seconds_used: float
    frames: int
    steps: int
    wall_s: float
    before: Metrics
    after: Metrics


@dataclass(frozen=True)
class _Footage:
    clip: FaceClip
    seconds: float
    neutral: F32
    mean_residual: F32


def adapt(
    video: Path, out: Path, options: AdaptOptions, *, now_iso: str, on_progress: Progress
) -> AdaptReport:
    """Learn an actor from a video and write the pack.

    Raises:
        MediaError: the video cannot be read, or is too short.
        NoFaceError: it shows no face.
        OutputError: the pack cannot be written.
        AssetError: the prior is missing.
    """
    began = monotonic()
    _seed(options.seed)
    model, tier = load_face_model(), TIERS["cpu"]
    footage = _read(video, options, model, tier, on_progress)
    prior = load_prior(tier)
    order = reference_order(footage.clip, model)
    learner = _Learner(prior, footage.clip, model, order, options)
    before = learner.metrics()
    learner.run(on_progress)
    after = learner.metrics()
    pack = _pack(learner, footage, options, out, now_iso, after)
    write_pack(pack, out)
    return AdaptReport(footage.seconds, len(footage.clip), options.steps, monotonic() - began, before, after)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("no CUDA device that torch can use: leave out --device cuda")
    return torch.device(name)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(max(1, min(2, torch.get_num_threads())))


def _read(
    video: Path, options: AdaptOptions, model: FaceModel, tier: Tier, on_progress: Progress
) -> _Footage:
    seconds = options.seconds if options.seconds is not None else 60.0
    end_s = options.start_s + seconds
    track = track_video(
        video, face=options.face, max_s=end_s, on_frame=lambda done: on_progress("track", done, None)
    )
    times = track.pts * float(track.time_base)
    wanted = (times >= options.start_s) & (times < end_s)
    if not wanted.any():
        raise MediaError(
            f"{video} has no frame between {options.start_s:g} and {end_s:g} s: give another --start"
        )
    landmarks = track.landmarks[: len(wanted)].copy()
    landmarks[~wanted] = np.nan
    neutral = person_neutral(model, landmarks)
    residual = _mean_residual(model, neutral, landmarks)
    stride = max(1, int(wanted.sum()) // MAX_FRAMES)
    shape = (neutral + residual).astype(np.float32)
    with open_video(video) as reader:
        pictures = (to_rgb(frame.image, reader.info.colour) for frame in reader)
        counted = _counting(pictures, on_progress, len(landmarks))
        clip = crop_clip(
            video.stem,
            counted,
            landmarks,
            model,
            size_px=tier.size_px,
            neutral=neutral,
            shape=shape,
            stride=stride,
        )
    used = times[wanted]
    step_s = float(np.median(np.diff(used))) if len(used) > 1 else 0.0
    return _Footage(clip, float(used[-1] - used[0] + step_s), neutral, residual)


def _counting(pictures: Iterable[U8], on_progress: Progress, total: int) -> Iterator[U8]:
    for index, picture in enumerate(pictures):
        on_progress("crop", index + 1, total)
        yield picture


def _mean_residual(model: FaceModel, neutral: F32, landmarks: F32) -> F32:
    """The person's mean offset [468, 3] from the model; 0 at the lips, whose rest must stay."""
    fitter = Fitter(model, neutral)
    seen = landmarks[np.isfinite(landmarks).all(axis=(1, 2))]
    mean = np.mean([fitter.fit(frame).residual for frame in seen], axis=0)
    kept = np.zeros((LANDMARKS, 3), np.float32)
    cheeks = np.setdiff1d(model.lower, np.array([*LIPS, *INNER_LIPS]))
    kept[cheeks] = mean[cheeks]
    return kept


class _Learner:
    """One adaptation: what is optimised, on what, and the best state so far."""

    def __init__(
        self, prior: Prior, clip: FaceClip, model: FaceModel, order: np.ndarray, options: AdaptOptions
    ) -> None:
        self.device = _device(options.device)
        self.prior, self.clip, self.model, self.options = prior.to(self.device), clip, model, options
        self.perceptual = load_perceptual().to(self.device)
        count = len(clip)
        held = max(1, round(count * HELD_OUT_SHARE)) if count >= MIN_FRAMES else 0
        self.training = np.arange(count - held)
        self.reference = int(order[order < len(self.training)][0])
        self.held_out = np.arange(count - held, count) if held else np.arange(count)
        self.texture = nn.Parameter(self._start())
        self.best_score: dict[str, float] = {}
        self.best_texture, self.best_weights = self.texture.detach().clone(), self._weights()
        self.changed = False
        self._rng = np.random.default_rng(options.seed)

    def _start(self) -> torch.Tensor:
        """The prior's mean texture, with the person's own colours where they were seen."""
        texture = self.prior.mean.detach().cpu().clone()
        colour, weight = unproject(self.clip, self.model, self.prior.tier.texture_px, end=len(self.training))
        own = torch.from_numpy(colour * 2 - 1).permute(2, 0, 1)
        seen = torch.from_numpy(np.minimum(weight, 1))
        texture[:3] += (own - texture[:3]) * seen
        return texture.to(self.device)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.prior.net.state_dict().items()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """PSNR of hole and mouth on the held-out frames, dB."""
        batch = self._batch(self._some_held_out(), NO_NOISE)
        picture, _ = self.prior.render(batch, self.texture[None])
        hole = (batch.mask > 0).float()
        return {
            "hole_psnr_db": psnr_db(picture, batch.target, hole),
            "mouth_psnr_db": psnr_db(picture, batch.target, batch.mouth),
        }

    @torch.no_grad()
    def metrics(self) -> Metrics:
        """The metrics of `livedub evaluate` on the held-out frames, as far as crops can tell."""
        batch = self._batch(self._some_held_out(), NO_NOISE)
        picture, _ = self.prior.render(batch, self.texture[None])
        return crop_metrics(picture, batch, self.perceptual)

    def _some_held_out(self) -> NDArray[np.int64]:
        return self.held_out[:: max(1, len(self.held_out) // 12)]

    def _batch(self, frames: NDArray[np.int64], noise: Noise) -> Batch:
        chosen = [(0, int(frame), self.reference) for frame in frames]
        return make_batch([self.clip], chosen, self.model, noise, self._rng).to(self.device)

    def run(self, on_progress: Progress) -> None:
        """Optimise; ends with the best state, in `texture` and the network."""
        steps, first = self.options.steps, int(self.options.steps * TEXTURE_SHARE)
        self.best_score = self.measure()
        optimiser = torch.optim.Adam(
            [
                {"params": [self.texture], "start": TEXTURE_RATE},
                {"params": self.prior.net.parameters(), "start": NET_RATE},
            ]
        )
        for step in range(steps):
            decay = 0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * step / steps))
            for group, factor in zip(
                optimiser.param_groups, (1.0, 0.0 if step < first else 1.0), strict=True
            ):
                group["lr"] = group["start"] * decay * factor
            self._step(optimiser)
            on_progress("adapt", step + 1, steps)
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:
                self._keep_best(step >= first)
        self.prior.net.load_state_dict(self.best_weights)
        with torch.no_grad():
            self.texture.copy_(self.best_texture)

    def _step(self, optimiser: torch.optim.Optimizer) -> None:
        batch = self._batch(self._rng.choice(self.training, BATCH), TRAINING_NOISE)
        picture, sampled = self.prior.render(batch, self.texture[None])

        def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            with torch.autocast(a.device.type, dtype=torch.bfloat16):
                result: torch.Tensor = self.perceptual(a, b)
                return result

        loss = render_loss(
            picture, batch.target, sampled, batch.covered, batch.mask, batch.mouth, perceptual=distance
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.prior.net.parameters(), 1.0)
        optimiser.step()

    def _keep_best(self, network_moved: bool) -> None:
        score = self.measure()
        if score["mouth_psnr_db"] + score["hole_psnr_db"] > sum(self.best_score.values()):
            self.best_score, self.changed = score, network_moved
            self.best_texture, self.best_weights = self.texture.detach().clone(), self._weights()


def _pack(
    learner: _Learner,
    footage: _Footage,
    options: AdaptOptions,
    out: Path,
    now_iso: str,
    after: Metrics,
) -> ActorPack:
    model, tier = learner.model, learner.prior.tier
    name = options.name or out.stem
    shape = model.extend(footage.neutral + footage.mean_residual)
    neutral = model.extend(footage.neutral)
    weights = {
        PREFIX + key: value.cpu().numpy().astype(np.float16) for key, value in learner.best_weights.items()
    }
    return ActorPack(
        manifest=Manifest(
            name=name,
            created=now_iso,
            face_model_sha256=asset_sha256(FACE_MODEL_ASSET),
            prior_sha256=asset_sha256(PRIOR_ASSETS[tier.name]),
            tier=tier.name,
            image_size_px=tier.size_px,
            seconds_used=footage.seconds,
            consent=options.consent or attestation(name, now_iso),
            metrics={key: value for key, value in after.items() if value is not None},
        ),
        neutral=neutral,
        mean_residual=(shape - neutral).astype(np.float32),
        texture=learner.best_texture.cpu().numpy().astype(np.float16),
        style=np.zeros(STYLE_SIZE, np.float32),
        references=learner.clip.crops[[learner.reference]],
        weights=weights if learner.changed else {},
    )


def attestation(name: str, now_iso: str) -> ConsentRecord:
    """The record of an adaptation without a consent file: who ran it answers for the person's agreement."""
    return ConsentRecord(
        subject=name,
        granted_by="the operator, by running adapt without --consent",
        purpose="visual dubbing",
        languages=("*",),
        granted_at=now_iso,
        expires_at=None,
        statement="Who ran this adaptation attests that the person shown agreed to be dubbed.",
    )


__all__ = ["AdaptOptions", "AdaptReport", "adapt", "attestation"]
