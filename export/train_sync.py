"""Train the sync measure on real footage: `livedub train sync`.

Contrastive. Each window's true offset must score best among all offsets within +-1 s of the same clip, so
negatives are up to two seconds apart, and each window's own sound best among the other clips of the batch.
Clips whose sound may not be the mouth's are left out; half way, so are those on which the network finds no
offset that holds, and the others are moved by what it finds (their given offsets are coarse estimates).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.arrays import F32, F64
from engine.expression.audio import MEL_BANDS
from engine.face.model import FaceModel
from engine.timing import MEL_RATE_HZ
from export.audio_metrics import fitted
from export.sync_net import (
    HIT_MS,
    MELS_PER_SAMPLE,
    RATE_HZ,
    REACH_SAMPLES,
    STEP_MS,
    WINDOW_SAMPLES,
    SyncCurve,
    SyncMeasure,
    SyncNet,
    fit_modes,
    mouth_geometry,
    slide,
)
from export.training_set import PackedClip

RATE, WEIGHT_DECAY, BATCH, STEPS = 2e-3, 0.05, 32, 600
MEMORY = 0.99  # of the running mean of weights
BLUR_MS = 20.0  # the target is a bell around the true offset
WRONG_CLIP = 0.5  # weight of the negatives from other clips
MIN_SECONDS = 2.2
MIN_FOUND, MIN_FOUND_HELD_OUT = 0.9, 0.5  # share of frames with a face
MOVE_LIMIT_MS = 200.0  # an estimate that is further off is not believed
SOUND_SAMPLES = WINDOW_SAMPLES + 2 * REACH_SAMPLES


@dataclass(frozen=True, eq=False)
class SyncClip:
    """One clip.

    Attributes:
        name: of its file; identity: who speaks.
        held_out: whether for scores only.
        mels: float32 [M, 80] at 100 Hz.
        time_s: float64 [F], the moment of the sound that each picture belongs to; increasing.
        mouth: float32 [F, 144], see `mouth_geometry`.
    """

    name: str
    identity: str
    held_out: bool
    mels: F32
    time_s: F64
    mouth: F32


def read_sync_clip(packed: PackedClip, model: FaceModel) -> SyncClip | None:
    """A clip's sound and mouth; None where the face is lost too often, or there is no sound that fits.

    Offsets are as told: what a measure said of them would have the next one agree with it.
    """
    packed = replace(packed, clip=packed.clip.as_told())
    mels = packed.log_mels()
    least = MIN_FOUND_HELD_OUT if packed.clip.held_out else MIN_FOUND
    if mels is None or not packed.clip.speaks or packed.found.mean() < least:
        return None
    if np.ptp(packed.time_s[packed.found]) < MIN_SECONDS:
        return None
    expression, time_s = fitted(packed, model)
    mouth = mouth_geometry(expression, model)
    return SyncClip(packed.clip.path.stem, packed.clip.identity, packed.clip.held_out, mels, time_s, mouth)


@dataclass(frozen=True)
class SyncAccuracy:
    """How often the offset is found, on windows of 2 s among offsets within +-1 s.

    Attributes:
        windows, clips: how many were looked at.
        hits: share of windows whose best offset is within 40 ms of the clip's given one.
        hits_600: the same among offsets within +-600 ms (SyncNet's range).
        hits_own: share within 40 ms of where the whole clip scores best, the window's own share left out:
            what the measure itself adds where given offsets are coarse.
        clip_hits: share of clips whose summed score is best within 40 ms of the given offset.
    """

    windows: int
    clips: int
    hits: float
    hits_600: float
    hits_own: float
    clip_hits: float


def accuracy(measure: SyncMeasure, clips: Sequence[SyncClip]) -> SyncAccuracy | None:
    """Of unseen clips, means over windows; None where no clip is long enough for one."""
    rows: list[tuple[float, float, float]] = []
    whole: list[bool] = []
    for clip in clips:
        curves = measure.curves(clip.mels, clip.mouth, clip.time_s)
        if not curves:
            continue
        total = np.sum([curve.score for curve in curves], axis=0)
        at = curves[0].offset_ms
        whole.append(bool(abs(at[total.argmax()]) <= HIT_MS))
        rows += [
            (
                float(abs(curve.best_ms) <= HIT_MS),
                float(abs(_best(curve, 600.0)) <= HIT_MS),
                float(abs(curve.best_ms - at[(total - curve.score).argmax()]) <= HIT_MS)
                if len(curves) > 1 and np.isfinite(total).all()
                else np.nan,
            )
            for curve in curves
        ]
    if not rows:
        return None
    hits, hits_600, hits_own = np.nanmean(rows, axis=0)
    return SyncAccuracy(
        len(rows), len(whole), float(hits), float(hits_600), float(hits_own), float(np.mean(whole))
    )


def _best(curve: SyncCurve, reach_ms: float) -> float:
    near = np.abs(curve.offset_ms) <= reach_ms
    return float(curve.offset_ms[near][int(curve.score[near].argmax())])


@dataclass(frozen=True)
class SyncProgress:
    """One line of a training log."""

    step: int
    loss: float
    accuracy: SyncAccuracy | None


class SyncSampler:
    """Draws disturbed windows; people weigh by the square root of how much they say.

    Args:
        clips: to draw from.
        net: whose modes the mouths are given in.
        seed: of everything random.
    """

    def __init__(self, clips: Sequence[SyncClip], net: SyncNet, seed: int) -> None:
        self.rng, self.clips = np.random.default_rng(seed), clips
        self._modes = [net.project(torch.from_numpy(clip.mouth)).numpy() for clip in clips]
        said: dict[str, float] = {}
        for clip in clips:
            said[clip.identity] = said.get(clip.identity, 0.0) + len(clip.time_s)
        weight = np.array([len(clip.time_s) / said[clip.identity] ** 0.5 for clip in clips])
        self._weight = weight / weight.sum()

    def draw(self) -> tuple[F32, F32, F32, int]:
        """A window.

        Returns:
            Log-mels [2 L, 80] of L = 200 samples; modes [W, MODES]; the target [L - W + 1], a bell that sums
            to 1, -1 where there is no sound; and the true place.
        """
        index = int(self.rng.choice(len(self.clips), p=self._weight))
        clip, speed = self.clips[index], float(np.exp(self.rng.normal(0, 0.08)))
        seconds = WINDOW_SAMPLES / RATE_HZ * speed
        low, high = max(0.0, clip.time_s[0]), min(clip.time_s[-1], len(clip.mels) / MEL_RATE_HZ) - seconds
        start_s = float(self.rng.uniform(low, max(low, high)))
        place = int(self.rng.integers(SOUND_SAMPLES - WINDOW_SAMPLES + 1))
        mels, inside = self._sound(clip.mels, start_s - place / RATE_HZ * speed, speed)
        at = start_s + np.arange(WINDOW_SAMPLES) / RATE_HZ * speed
        modes = np.stack([np.interp(at, clip.time_s, column) for column in self._modes[index].T], 1)
        target = np.exp(-0.5 * ((np.arange(len(inside)) - place) * STEP_MS / BLUR_MS) ** 2) * inside
        target = np.where(inside, target / max(target.sum(), 1e-6), -1.0)
        return self._heard(mels), self._seen(modes), target.astype(np.float32), place

    def _sound(self, mels: F32, start_s: float, speed: float) -> tuple[F64, F64]:
        """Log-mels from `start_s` on, their mean where there are none, and which places are whole."""
        position = start_s * MEL_RATE_HZ + np.arange(SOUND_SAMPLES * MELS_PER_SAMPLE) * speed
        known = (position >= -1) & (position <= len(mels))
        low = np.clip(position.astype(int), 0, len(mels) - 2)
        share = np.clip(position - low, 0, 1)[:, None]
        sound = mels[low] * (1 - share) + mels[low + 1] * share
        sound[~known] = sound[known].mean(0)
        moments = known[::MELS_PER_SAMPLE].astype(np.float64)
        inside = np.convolve(moments, np.ones(WINDOW_SAMPLES), "valid") >= WINDOW_SAMPLES - 2
        return np.asarray(sound, np.float64), inside.astype(np.float64)

    def _heard(self, mels: F64) -> F32:
        """Vocal tract length, colour, noise or another voice, missing bands and moments."""
        rng = self.rng
        position = np.clip(np.arange(MEL_BANDS) * np.exp(rng.normal(0, 0.08)), 0, MEL_BANDS - 1.001)
        low = position.astype(int)
        heard = mels[:, low] * (1 - position + low) + mels[:, low + 1] * (position - low)
        heard = heard + np.cumsum(rng.normal(0, 0.06, MEL_BANDS))
        if rng.random() < 0.4:
            floor = np.quantile(heard, rng.uniform(0.05, 0.4)) + np.cumsum(rng.normal(0, 0.1, MEL_BANDS))
            heard = np.logaddexp(heard, floor + rng.normal(0, 0.5, heard.shape))
        elif rng.random() < 0.3:
            other = self.clips[int(rng.integers(len(self.clips)))].mels
            begin = int(rng.integers(max(1, len(other) - len(heard))))
            voice = other[begin : begin + len(heard)] - rng.uniform(2, 6)
            heard[: len(voice)] = np.logaddexp(heard[: len(voice)], voice)
        if rng.random() < 0.4:
            band = int(rng.integers(MEL_BANDS - 16))
            heard[:, band : band + int(rng.integers(4, 16))] = heard.mean()
        if rng.random() < 0.3:
            begin = int(rng.integers(len(heard) - 20))
            heard[begin : begin + int(rng.integers(5, 20))] = heard.mean(0)
        return np.asarray(heard, np.float32)

    def _seen(self, modes: F64) -> F32:
        """Size of the motion, the tracker's noise, a mode that is missing."""
        rng = self.rng
        gain = np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.15, modes.shape[1]))
        seen = modes * gain + rng.normal(0, 0.08, modes.shape)
        seen[:, rng.random(modes.shape[1]) < 0.1] = 0
        return np.asarray(seen, np.float32)


def train_sync_net(
    clips: Sequence[SyncClip],
    held_out: Sequence[SyncClip],
    *,
    steps: int = STEPS,
    seed: int = 0,
    every: int = 200,
    on_progress: Callable[[SyncProgress], None] | None = None,
) -> SyncNet:
    """A trained network.

    Args:
        clips: to learn from.
        held_out: other people's, for the log only.
        steps: of optimisation.
        seed: of everything random.
        every: steps between looks at the held-out clips.
        on_progress: called after these.

    Raises:
        ValueError: there are no clips.
    """
    if not clips:
        raise ValueError("there is no clip to learn from")
    torch.manual_seed(seed)
    net = _new_net(clips)
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    mean = {name: value.clone() for name, value in net.state_dict().items()}
    sampler = SyncSampler(clips, net, seed)
    for step in range(steps):
        if step == steps // 2:
            sampler = SyncSampler(_moved(SyncMeasure(_with(mean)), clips), net, seed + 1)
            net.train()
        loss = _loss(net, sampler)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        for name, value in net.state_dict().items():
            mean[name].lerp_(value, 1 - MEMORY)
        if on_progress and ((step + 1) % every == 0 or step + 1 == steps):
            found = accuracy(SyncMeasure(_with(mean)), held_out) if held_out else None
            on_progress(SyncProgress(step + 1, loss.item(), found))
    return _with(mean)


def _new_net(clips: Sequence[SyncClip]) -> SyncNet:
    net = SyncNet()
    mels = np.concatenate([clip.mels for clip in clips])
    mouths = np.concatenate([clip.mouth - clip.mouth.mean(0) for clip in clips])
    net.mel_offset.copy_(torch.from_numpy(mels.mean(0)))
    net.mel_gain.copy_(torch.from_numpy(1 / mels.std(0)))
    net.modes.copy_(torch.from_numpy(fit_modes(mouths)))
    return net


def _with(weights: dict[str, Tensor]) -> SyncNet:
    net = SyncNet()
    net.load_state_dict(weights)
    return net.eval()


def _loss(net: SyncNet, sampler: SyncSampler) -> Tensor:
    drawn = [sampler.draw() for _ in range(BATCH)]
    mels, modes, target = (torch.from_numpy(np.stack(part)) for part in list(zip(*drawn, strict=True))[:3])
    heard, seen = net.audio(mels), net.mouth(modes)
    score = slide(heard, seen).masked_fill(target < 0, -1e4)
    own = -(target.clamp(min=0) * F.log_softmax(score, 1)).sum(1).mean()
    places = [place for *_, place in drawn]
    true = torch.stack([one[:, p : p + WINDOW_SAMPLES] for one, p in zip(heard, places, strict=True)])
    pairs, labels = torch.einsum("act,bct->ab", true, seen), torch.arange(BATCH)
    other = (F.cross_entropy(pairs, labels) + F.cross_entropy(pairs.T, labels)) / 2
    result: Tensor = own + WRONG_CLIP * other
    return result


def _moved(measure: SyncMeasure, clips: Sequence[SyncClip]) -> list[SyncClip]:
    """The clips at the offsets that are found on them; those without one that is believed are left out."""
    kept = []
    for clip in clips:
        found = measure.score(clip.mels, clip.mouth, clip.time_s)
        if found is None:
            kept.append(clip)
        elif abs(found.offset_ms) <= MOVE_LIMIT_MS:
            kept.append(replace(clip, time_s=clip.time_s - found.offset_ms / 1000))
    return kept or list(clips)
