"""Train audio-to-expression on real footage: `livedub train audio`.

Errors are measured on vertices (lips weigh most), on their velocity, on how far the lips are open, on
closures that stay open, and on how much the opening varies, against mumbling. What ships is a running mean of
the weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from engine.expression.audio import LOOK_AHEADS_MS, STYLE_SIZE
from engine.face.model import LIPS, FaceModel, aperture
from export.audio_data import MELS_PER_STEP, Sampler, SpokenClip, targets
from export.audio_net import AudioNet

RATE, WEIGHT_DECAY, BATCH = 1.5e-3, 0.02, 32
LIP_WEIGHT, SKIN_WEIGHT = 3.0, 0.5
VELOCITY, OPENING, CLOSURE, VARIATION = 5.0, 0.3, 2.0, 0.4
CLOSED_CM, SETTLE_STEPS = 0.15, 6
STYLE_SHARE = 0.5  # of samples that are told who speaks; the rest learns the average speaker
MEMORY = 0.98  # of the running mean of weights


@dataclass(frozen=True)
class AudioScore:
    """How well held-out speakers are predicted, means over clips.

    Attributes:
        correlation: of the lips' opening with the truth; wrong: with another clip's sound.
        range_ratio: standard deviation of the opening against the truth's.
        closed_sigma: opening where the truth's is smallest, in standard deviations; negative is good.
    """

    correlation: float
    wrong: float
    range_ratio: float
    closed_sigma: float


@dataclass(frozen=True)
class AudioProgress:
    """One line of a training log."""

    step: int
    loss: float
    score: AudioScore


def train_audio_net(
    clips: Sequence[SpokenClip],
    held_out: Sequence[SpokenClip],
    model: FaceModel,
    *,
    steps: int,
    seed: int = 0,
    on_progress: Callable[[AudioProgress], None] | None = None,
    every: int = 75,
) -> tuple[AudioNet, AudioScore]:
    """A trained network and its score at 120 ms look-ahead on the held-out clips."""
    torch.manual_seed(seed)
    sampler, net = Sampler(clips, seed), _new_net(clips, model)
    styles = nn.Embedding(len(sampler.people), STYLE_SIZE)
    nn.init.normal_(styles.weight, std=0.1)
    loss_of = SpeechLoss(model)
    optimiser = torch.optim.AdamW([*net.parameters(), *styles.parameters()], RATE, weight_decay=WEIGHT_DECAY)
    mean = {name: value.clone() for name, value in net.state_dict().items()}
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = (
                RATE * min(1, (step + 1) / 50) * (0.03 + 0.97 * 0.5 * (1 + np.cos(np.pi * step / steps)))
            )
        loss = _loss_of_batch(net, styles, sampler, loss_of)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        for name, value in net.state_dict().items():
            mean[name].lerp_(value, 1 - MEMORY)
        if (step + 1) % every == 0 or step + 1 == steps:
            now = _score_with(net, mean, held_out, model)
            if on_progress:
                on_progress(AudioProgress(step + 1, loss.item(), now))
    net.load_state_dict(mean)
    return net.eval(), score(net, held_out, model)


def _new_net(clips: Sequence[SpokenClip], model: FaceModel) -> AudioNet:
    mels = np.concatenate([clip.mels for clip in clips])
    spread = np.sqrt(np.mean(np.concatenate([clip.expression for clip in clips]) ** 2, 0))
    net = AudioNet(model.expressions)
    net.offset.copy_(torch.from_numpy(mels.mean(0)))
    net.gain.copy_(torch.from_numpy(1 / mels.std(0)))
    net.scale.copy_(torch.from_numpy(spread))
    return net


def _loss_of_batch(net: AudioNet, styles: nn.Embedding, sampler: Sampler, loss_of: "SpeechLoss") -> Tensor:
    samples = [sampler.draw() for _ in range(BATCH)]
    told = [
        s.speaker if s.speaker is not None and sampler.rng.random() < STYLE_SHARE else None for s in samples
    ]
    style = torch.stack([torch.zeros(STYLE_SIZE) if who is None else styles.weight[who] for who in told])
    code = torch.eye(len(LOOK_AHEADS_MS))[[s.look_ahead for s in samples]]
    mels, truth, known = (
        torch.from_numpy(np.stack([getattr(s, name) for s in samples]))
        for name in ("mels", "expression", "known")
    )
    predicted = net(mels, code, style, *net.initial_state(BATCH))[0]
    known[:, :SETTLE_STEPS] = 0
    result: Tensor = loss_of(predicted, truth, known)
    return result


class SpeechLoss:
    """The loss of expressions [B, T, E] against the truth, where it is known [B, T]."""

    def __init__(self, model: FaceModel) -> None:
        weight = np.where(np.isin(model.lower, LIPS), LIP_WEIGHT, SKIN_WEIGHT)[:, None]
        basis = (model.basis[:, model.lower] * np.sqrt(weight)).reshape(model.expressions, -1)
        self._metric = torch.from_numpy((basis @ basis.T / weight.sum()).astype(np.float32))
        self._opening = torch.from_numpy(aperture(model.basis).astype(np.float32))

    def __call__(self, predicted: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """One number."""
        error = predicted - truth
        velocity = error[:, 1:] - error[:, :-1]
        opening, true_opening = predicted @ self._opening, truth @ self._opening
        closure = torch.relu(opening - true_opening - 0.05) * (true_opening < CLOSED_CM)
        variation = (_deviation(opening, known) - _deviation(true_opening, known)) ** 2
        return (
            _mean(((error @ self._metric) * error).sum(-1), known)
            + VELOCITY * _mean(((velocity @ self._metric) * velocity).sum(-1), known[:, 1:] * known[:, :-1])
            + OPENING * _mean((opening - true_opening) ** 2, known)
            + CLOSURE * _mean(closure, known)
            + VARIATION * variation.mean()
        )


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    return (value * weight).sum() / (weight.sum() + 1e-6)


def _deviation(value: Tensor, weight: Tensor) -> Tensor:
    share = weight / (weight.sum(1, keepdim=True) + 1e-6)
    centred = value - (share * value).sum(1, keepdim=True)
    return ((share * centred**2).sum(1) + 1e-4).sqrt()


def _score_with(
    net: AudioNet, weights: dict[str, Tensor], clips: Sequence[SpokenClip], model: FaceModel
) -> AudioScore:
    current = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(weights)
    result = score(net, clips, model)
    net.load_state_dict(current)
    net.train()
    return result


@torch.no_grad()
def score(
    net: AudioNet, clips: Sequence[SpokenClip], model: FaceModel, look_ahead_ms: int = 120
) -> AudioScore:
    """How well the average style predicts these clips."""
    net.eval()
    opening_of = aperture(model.basis)
    rows = []
    for index, clip in enumerate(clips):
        wrong = clips[(index + 1) % len(clips)]
        truth, known = targets(clip, 0.0, len(clip.mels) // MELS_PER_STEP, look_ahead_ms)
        use = known > 0
        use[:SETTLE_STEPS] = False
        true = (truth @ opening_of)[use]
        said = (predict(net, clip.mels, look_ahead_ms) @ opening_of)[: len(use)][use]
        other = predict(net, wrong.mels, look_ahead_ms) @ opening_of
        count = min(len(other), len(use))
        control = np.corrcoef((truth @ opening_of)[:count][use[:count]], other[:count][use[:count]])[0, 1]
        closed = true < np.quantile(true, 0.12)
        rows.append(
            (
                np.corrcoef(true, said)[0, 1],
                control,
                said.std() / true.std(),
                (said[closed].mean() - said.mean()) / said.std(),
            )
        )
    return AudioScore(*(float(value) for value in np.mean(rows, axis=0)))


def predict(net: AudioNet, mels: np.ndarray, look_ahead_ms: int) -> np.ndarray:
    """Expressions float32 [M // 4, E] of a clip's mels [M, 80], average style."""
    code = torch.eye(len(LOOK_AHEADS_MS))[[LOOK_AHEADS_MS.index(look_ahead_ms)]]
    whole = torch.from_numpy(mels[: len(mels) // MELS_PER_STEP * MELS_PER_STEP])[None]
    with torch.no_grad():
        result = net(whole, code, torch.zeros(1, STYLE_SIZE), *net.initial_state(1))[0][0].numpy()
    return np.asarray(result, np.float32)
