"""Learning one person from frames: what is optimised, in which stages, and when to stop.

The texture starts from the prior's mean, with the person's own colours laid out on it, and learns first, the
network held still. Then texture and network learn together at a low rate. There, half of every batch shows
the person's frames with other expressions, drawn broadly, and the network must give what the prior's gives:
what the seconds did not show stays the prior's. No footage of other people is needed for that. Texels that
no frame shows keep the prior's mean.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from engine.errors import BackendUnavailable
from engine.face.model import load_face_model
from export.adapt_metrics import Metrics, crop_metrics
from export.coverage import choose_reference, seen_colours
from export.dataset import FaceClip
from export.losses import psnr_db, render_loss
from export.perceptual import MIN_SIDE_PX, Perceptual, load_perceptual
from export.prior_assets import load_prior
from export.prior_net import TIERS
from export.render_batch import (
    TRAINING_NOISE,
    Batch,
    Noise,
    Sample,
    make_batch,
)
from export.replay import drift, frames_of, with_other_expressions
from export.train_prior import NET_RATE as SCRATCH_NET_RATE
from export.train_prior import TEXTURE_RATE as SCRATCH_TEXTURE_RATE
from export.train_prior import Prior

DEFAULT_STEPS, PHOTO_STEPS, BATCH = 160, 30, 6
TEXTURE_SHARE = 0.3  # of the steps, texture alone
TEXTURE_RATE, NET_RATE = 8e-3, 2e-4
WARM_UP = 20  # steps: Adam's first ones move every weight by the whole rate, which undoes much of the prior
REPLAY_SHARE, REPLAY_WEIGHT = 0.5, 0.5
HELD_OUT_SHARE, MIN_FRAMES = 0.1, 8
CHECK_EVERY, CHECK_FRAMES, PATIENCE = 20, 12, 4
HELD_OUT_NOISE = Noise(borrowed=1.0)  # other skin: what is drawn is judged, not what is copied
PHOTO_NOISE = replace(TRAINING_NOISE, expression=0.15, shift_px=1.0, scale=0.01, colour=0.06)


@dataclass(frozen=True, kw_only=True)
class LearnOptions:
    """How to learn.

    Attributes:
        steps: of optimisation; None takes `DEFAULT_STEPS`, for a photo `PHOTO_STEPS`.
        seed: of everything random.
        device: "cpu" or "cuda".
        start: from the prior, or from a fresh network and texture (both learn from the first step on, at the
            prior's own rates).
        mixed: replay the prior on other expressions while the network learns.
        texture_stage: let the texture learn alone first; else texture and network learn together throughout.
        network_stage: let the network learn; else the texture alone does, throughout.
        personal_texture: False keeps the prior's mean texture as it is.
        check_every: steps between looks at the held-out frames.
        patience: looks without a gain before learning stops, in the last stage; None never stops early.
        keep_best: end with the best state of all looks, else with the last.
    """

    steps: int | None = None
    seed: int = 0
    device: str = "cpu"
    start: Literal["prior", "scratch"] = "prior"
    mixed: bool = True
    texture_stage: bool = True
    network_stage: bool = True
    personal_texture: bool = True
    check_every: int = CHECK_EVERY
    patience: int | None = PATIENCE
    keep_best: bool = True


@dataclass(frozen=True)
class Check:
    """One look at the held-out frames.

    Attributes:
        step: steps done.
        seconds: of the clock, spent on them; looking does not count.
        loss: the training loss without its perceptual part.
        hole_psnr_db: of the redrawn area; mouth_psnr_db: around the lips; face_psnr_db: of the whole crop.
        face_ssim: of the whole crop.
    """

    step: int
    seconds: float
    loss: float
    hole_psnr_db: float
    mouth_psnr_db: float
    face_psnr_db: float
    face_ssim: float

    @property
    def score(self) -> float:
        """What is kept best."""
        return self.hole_psnr_db + self.mouth_psnr_db


@dataclass(frozen=True)
class Learned:
    """What came of it.

    Attributes:
        prior: with the network as learned.
        texture: float32 [16, h, w], on the CPU.
        changed: whether the network differs from the one it started as.
        reference: frame of the clip whose crop is the network's reference.
        checks: every look, the first before the first step; none without held-out frames.
        before: held-out metrics of `livedub evaluate` before learning, as far as crops tell; None without
            held-out frames.
        after: the same of the result.
        steps: done.
        best_step: whose state this is.
        held_out_frames: how many frames were kept for looking.
    """

    prior: Prior
    texture: Tensor
    changed: bool
    reference: int
    checks: tuple[Check, ...]
    before: Metrics | None
    after: Metrics | None
    steps: int
    best_step: int
    held_out_frames: int


def learn(
    clip: FaceClip,
    options: LearnOptions,
    prior: Prior | None = None,
    *,
    holdout: FaceClip | None = None,
    on_check: Callable[[Check], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    clock_s: Callable[[], float] = monotonic,
) -> Learned:
    """Learn one person.

    Args:
        clip: the person's frames; one is a photo.
        options: how.
        prior: what to start from, left as it is; None takes the shipped one.
        holdout: frames to look at in place of the clip's own last tenth; fitted with the clip's neutral.
        on_check: called with every look.
        on_step: called with the number of steps done and of all.
        clock_s: what `Check.seconds` counts.

    Raises:
        AssetError: the shipped prior is damaged.
        BackendUnavailable: there is no such device.
    """
    torch.manual_seed(options.seed)
    learner = _Learner(clip, options, prior or load_prior(TIERS["cpu"]), holdout, clock_s)
    return learner.run(on_check or _ignore, on_step or _ignore)


def steps_of(options: LearnOptions, frames: int) -> int:
    """How many steps to take at most, with so many frames."""
    if options.steps is not None:
        return options.steps
    return PHOTO_STEPS if frames < MIN_FRAMES else DEFAULT_STEPS


def _ignore(*_: object) -> None:
    pass


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("no CUDA device that torch can use: leave out --device cuda")
    return torch.device(name)


def _perceptual(size_px: int, device: torch.device) -> Perceptual | None:
    """The perceptual distance; None for crops whose mouths are too small for it."""
    return load_perceptual().to(device) if size_px * 3 // 8 >= MIN_SIDE_PX else None


@dataclass
class _Best:
    check: Check | None
    own: Tensor
    weights: dict[str, Tensor]
    step: int = 0
    changed: bool = False


class _Learner:
    """One adaptation: what is optimised, on what, and the best state so far."""

    def __init__(
        self,
        clip: FaceClip,
        options: LearnOptions,
        prior: Prior,
        holdout: FaceClip | None,
        clock_s: Callable[[], float],
    ) -> None:
        self.clip, self.options, self.clock_s = clip, options, clock_s
        self.device, self.model = _device(options.device), load_face_model()
        scratch = options.start == "scratch"
        self.prior = (Prior(prior.tier, 0) if scratch else copy.deepcopy(prior)).to(self.device)
        self.teacher = (
            None if scratch or not options.mixed else copy.deepcopy(self.prior).requires_grad_(False)
        )
        self.perceptual = _perceptual(prior.tier.size_px, self.device)
        count = len(clip)
        held = max(1, round(count * HELD_OUT_SHARE)) if count >= MIN_FRAMES and holdout is None else 0
        self.training = np.arange(count - held)
        self.holdout, self.held_out = clip, np.arange(count - held, count)
        if holdout is not None:
            self.holdout, self.held_out = holdout, np.arange(len(holdout))
        self.reference = choose_reference(frames_of(clip, self.training), self.model)
        self.start, self.seen = self._start()
        self.own = nn.Parameter(torch.zeros_like(self.start))
        self.steps, self.first = self._stages()
        self.noise = PHOTO_NOISE if count < MIN_FRAMES else TRAINING_NOISE
        self._rng = np.random.default_rng(options.seed)

    def _stages(self) -> tuple[int, int]:
        """Steps in all, and the step at which the network begins to learn."""
        options, steps = self.options, steps_of(self.options, len(self.clip))
        if not options.network_stage:
            return steps, steps
        alone = options.texture_stage and options.personal_texture and options.start == "prior"
        return steps, int(steps * TEXTURE_SHARE) if alone else 0

    def _start(self) -> tuple[Tensor, Tensor]:
        """The prior's mean texture with the person's own colours where they were seen, and how much so."""
        texture = self.prior.mean.detach().cpu().clone()
        if not self.options.personal_texture:
            return texture.to(self.device), torch.zeros_like(texture[:1]).to(self.device)
        shown = frames_of(self.clip, self.training)
        colour, weight = seen_colours(shown, self.model, self.prior.tier.texture_px)
        own, seen = torch.from_numpy(colour * 2 - 1).permute(2, 0, 1), torch.from_numpy(weight)[None]
        texture[:3] += (own - texture[:3]) * seen
        if self.options.start == "scratch":
            seen = torch.ones_like(seen)
        return texture.to(self.device), seen.to(self.device)

    def texture(self) -> Tensor:
        """The person's texture [16, h, w]: what no frame shows is as at the start."""
        return self.start + self.seen * self.own

    def run(self, on_check: Callable[[Check], None], on_step: Callable[[int, int], None]) -> Learned:
        """Optimise; the result is the best state, or the last."""
        spent, checks, before = 0.0, [], self._metrics()
        best = _Best(self._check(0, 0.0), self.own.detach().clone(), self._weights())
        if best.check:
            checks.append(best.check)
            on_check(best.check)
        optimiser = self._optimiser()
        step, stale = 0, 0
        while step < self.steps:
            began = self.clock_s()
            self._set_rates(optimiser, step)
            self._step(optimiser, network=step >= self.first)
            spent += self.clock_s() - began
            step += 1
            on_step(step, self.steps)
            if step % self.options.check_every and step < self.steps:
                continue
            check = self._check(step, spent)
            if check:
                checks.append(check)
                on_check(check)
            stale = 0 if self._is_better(check, best) or step <= self.first < self.steps else stale + 1
            if stale == 0 or not self.options.keep_best:
                best = self._state(check, step, best)
            if self.options.patience is not None and stale >= self.options.patience:
                break
        return self._learned(best, tuple(checks), before, step)

    def _state(self, check: Check | None, step: int, best: _Best) -> _Best:
        if self.options.keep_best and not self._is_better(check, best):
            return best
        return _Best(check, self.own.detach().clone(), self._weights(), step, step > self.first)

    @staticmethod
    def _is_better(check: Check | None, best: _Best) -> bool:
        return check is None or best.check is None or check.score > best.check.score

    def _learned(self, best: _Best, checks: tuple[Check, ...], before: Metrics | None, steps: int) -> Learned:
        self.prior.net.load_state_dict(best.weights)
        with torch.no_grad():
            self.own.copy_(best.own)
        after = self._metrics()
        texture = self.texture().detach().cpu()
        frames = len(self.held_out)
        return Learned(
            self.prior, texture, best.changed, self.reference, checks, before, after, steps, best.step, frames
        )

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.prior.net.state_dict().items()}

    def _optimiser(self) -> torch.optim.Optimizer:
        scratch = self.options.start == "scratch"
        rates = (SCRATCH_TEXTURE_RATE, SCRATCH_NET_RATE) if scratch else (TEXTURE_RATE, NET_RATE)
        groups = zip(([self.own], list(self.prior.net.parameters())), rates, strict=True)
        return torch.optim.Adam([{"params": params, "start": rate, "lr": 0.0} for params, rate in groups])

    def _set_rates(self, optimiser: torch.optim.Optimizer, step: int) -> None:
        decay = 0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * step / self.steps))
        for group, first in zip(optimiser.param_groups, (0, self.first), strict=True):
            warm = min(1.0, max(0, step + 1 - first) / WARM_UP)
            group["lr"] = group["start"] * decay * warm

    def _step(self, optimiser: torch.optim.Optimizer, *, network: bool) -> None:
        self.prior.net.requires_grad_(network)
        replayed = round(BATCH * REPLAY_SHARE) if network and self.teacher is not None else 0
        batch = self._batch(self._own_samples(BATCH - replayed))
        drawn = self.prior.render(batch, self.texture()[None])
        loss = render_loss(drawn, batch, perceptual=self._distance if self.perceptual else None)
        if replayed and self.teacher is not None:
            loss = loss + REPLAY_WEIGHT * self._replay(self.teacher, replayed)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.prior.net.parameters(), 1.0)
        optimiser.step()

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        with torch.autocast(a.device.type, dtype=torch.bfloat16):
            result: Tensor = self.perceptual(a, b) if self.perceptual else a.new_zeros(1)
            return result

    def _own_samples(self, count: int) -> list[Sample]:
        """Frames at random, each over a source with the mouth of another."""
        frames, others = self._rng.choice(self.training, (2, count))
        pairs = enumerate(zip(frames, others, strict=True))
        return [Sample(0, int(frame), self.reference, int(other), look) for look, (frame, other) in pairs]

    def _batch(self, samples: list[Sample], clip: FaceClip | None = None) -> Batch:
        clips = [self.clip if clip is None else clip]
        return make_batch(clips, samples, self.model, self.noise, self._rng).to(self.device)

    def _replay(self, teacher: Prior, count: int) -> Tensor:
        """How far the network is from the prior's on the person's frames with other expressions."""
        clip, samples = with_other_expressions(
            self.clip, self.training, self.reference, self.model, count, self._rng
        )
        return drift(self.prior, teacher, self._batch(samples, clip), self.texture().detach())

    def _held_out_batch(self) -> Batch:
        frames = self.held_out[:: max(1, len(self.held_out) // CHECK_FRAMES)]
        pairs = enumerate(zip(frames, np.roll(frames, len(frames) // 2), strict=True))
        samples = [Sample(0, int(frame), int(frame), int(other), look) for look, (frame, other) in pairs]
        batch = make_batch([self.holdout], samples, self.model, HELD_OUT_NOISE, np.random.default_rng(0))
        reference = torch.from_numpy(self.clip.crops[self.reference] / np.float32(255)).permute(2, 0, 1)
        return replace(batch, reference=reference.expand(len(frames), -1, -1, -1)).to(self.device)

    @torch.no_grad()
    def _check(self, step: int, spent_s: float) -> Check | None:
        if not len(self.held_out):
            return None
        batch = self._held_out_batch()
        drawn = self.prior.render(batch, self.texture()[None])
        face = crop_metrics(drawn, batch, None)
        return Check(
            step,
            spent_s,
            float(render_loss(drawn, batch)),
            psnr_db(drawn.picture, batch.target, (batch.mask > 0).float()),
            psnr_db(drawn.picture, batch.target, batch.mouth),
            float(face["face_psnr_db"] or 0.0),
            float(face["face_ssim"] or 0.0),
        )

    @torch.no_grad()
    def _metrics(self) -> Metrics | None:
        """The metrics of `livedub evaluate` on the held-out frames, as far as crops can tell."""
        if not len(self.held_out):
            return None
        batch = self._held_out_batch()
        drawn = self.prior.render(batch, self.texture()[None])
        return crop_metrics(drawn, batch, self.perceptual)


__all__ = ["Check", "LearnOptions", "Learned", "frames_of", "learn", "steps_of"]
