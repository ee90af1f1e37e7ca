"""Train audio-to-expression on real footage: `livedub train audio`.

Errors are measured on vertices (lips weigh most), on their velocity, on how far the lips are open, on
closures that stay open, and on how much the opening varies, against mumbling. Two networks learn from the
footage alone; a third, which ships, from the footage and from what the two make of it with 240 ms of
look-ahead. Each is a running mean of its weights.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from engine.expression.audio import LOOK_AHEADS_MS, STYLE_SIZE
from engine.face.model import LIPS, FaceModel, aperture
from export.audio_data import MELS_PER_STEP, SETTLE_STEPS, Sampler, SpokenClip, step_times_s, targets
from export.audio_net import AudioNet
from export.speech_front import SpeechFront

RATE, WEIGHT_DECAY, BATCH = 1.5e-3, 0.02, 32
FRONT_CLIPS, LEAST_SPREAD = 40, 0.05  # samples that the front end's features are scaled by
LIP_WEIGHT, SKIN_WEIGHT = 3.0, 0.5
VELOCITY, OPENING, CLOSURE, VARIATION = 5.0, 0.3, 2.0, 0.4
CLOSED_CM = 0.15
STYLE_SHARE = 0.5  # of samples that are told who speaks; the rest learns the average speaker
STYLE_RATE_SHARE = 20.0  # of the rate: each person's code is learned from few samples
MEMORY, WARM_UP_STEPS = 0.98, 50  # of the running mean of weights; of the rate
TEACHERS = 2
TEACHERS_SHARE = 0.6  # of what it learns
LOOK_AHEAD_WEIGHTS = (3.0, 1.0, 1.0, 1.0)  # no look-ahead is hardest
MOST_WIDENING = 1.6


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
    front: SpeechFront,
    *,
    steps: int,
    seed: int = 0,
    on_progress: Callable[[AudioProgress], None] | None = None,
    every: int = 50,
) -> tuple[AudioNet, AudioScore]:
    """A trained network and its score at 120 ms look-ahead on the held-out clips.

    Args:
        clips: what to learn from.
        held_out: what to score on.
        model: the face model.
        front: the front end, which stays as it is.
        steps: of the network that ships; its teachers take half as many, since they over-fit sooner.
        seed: decides everything.
        on_progress: told of scores; its step counts on over all networks, up to `steps_in_all`.
        every: so many steps, and at the end of each network.
    """
    teachers: list[AudioNet] = []
    learned_from, done = clips, 0
    for index in range(TEACHERS + 1):
        if index == TEACHERS:
            learned_from = [softened(clip, teachers) for clip in clips]
        own_steps = steps if index == TEACHERS else steps // 2
        net = _new_net(learned_from, model, front, seed + index)
        for step, loss in _train(net, learned_from, model, own_steps, seed + index, every):
            if on_progress:
                on_progress(AudioProgress(done + step, loss, score(net, held_out, model)))
        teachers.append(net)
        done += own_steps
    _widen(net, clips, model)
    return net, score(net, held_out, model)


def steps_in_all(steps: int) -> int:
    """Steps of the network that ships and of its teachers."""
    return steps + TEACHERS * (steps // 2)


def _train(
    net: AudioNet, clips: Sequence[SpokenClip], model: FaceModel, steps: int, seed: int, every: int
) -> Iterator[tuple[int, float]]:
    """Train; now and then, and at the end, `net` holds the running mean, and step and loss are given."""
    sampler, loss_of = Sampler(clips, seed), SpeechLoss(model)
    styles = nn.Embedding(len(sampler.people), STYLE_SIZE)
    nn.init.normal_(styles.weight, std=0.1)
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = [{"params": learned, "share": 1.0}, {"params": [styles.weight], "share": STYLE_RATE_SHARE}]
    optimiser = torch.optim.AdamW(groups, RATE, weight_decay=WEIGHT_DECAY)
    mean = [parameter.detach().clone() for parameter in learned]
    for step in range(1, steps + 1):
        for group in optimiser.param_groups:
            cosine = 0.5 * (1 + np.cos(np.pi * (step - 1) / steps))
            group["lr"] = group["share"] * RATE * min(1, step / WARM_UP_STEPS) * (0.03 + 0.97 * cosine)
        loss = _loss_of_batch(net.train(), styles, sampler, loss_of)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        for kept, parameter in zip(mean, learned, strict=True):
            kept.lerp_(parameter.detach(), 1 - min(MEMORY, step / (step + 9)))
        if step % every == 0 or step == steps:
            now = [parameter.detach().clone() for parameter in learned]
            _assign(learned, mean)
            net.eval()
            if step == steps:
                _unit_styles(net, styles)
            yield step, loss.item()
            if step < steps:
                _assign(learned, now)


@torch.no_grad()
def _unit_styles(net: AudioNet, styles: nn.Embedding) -> None:
    """Measure style codes in standard deviations of the training people."""
    spread = styles.weight.T @ styles.weight / len(styles.weight) + 1e-4 * torch.eye(STYLE_SIZE)
    root = torch.linalg.cholesky(spread)
    for layer in (net.condition, net.stretch):
        layer.weight.copy_(layer.weight @ root)


@torch.no_grad()
def _assign(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def softened(clip: SpokenClip, teachers: Sequence[AudioNet]) -> SpokenClip:
    """The clip with its motion moved towards what teachers say who hear 240 ms ahead.

    What they cannot tell from the sound nobody can, and a shorter look-ahead need not try.
    """
    longest_ms = LOOK_AHEADS_MS[-1]
    said = np.mean([predict(net, clip.mels, longest_ms) for net in teachers], axis=0)
    times = step_times_s(0.0, len(said), longest_ms)
    taught = np.stack([np.interp(clip.time_s, times, column) for column in said.T], 1)
    share = TEACHERS_SHARE * ((clip.time_s >= times[0]) & (clip.time_s <= times[-1]))[:, None]
    return replace(clip, expression=((1 - share) * clip.expression + share * taught).astype(np.float32))


@torch.no_grad()
def _widen(net: AudioNet, clips: Sequence[SpokenClip], model: FaceModel) -> None:
    """Let each look-ahead's answer open the lips as far as the training people do: doubt makes it mumble."""
    opening_of = aperture(model.basis)
    answers = net.out.weight.view(len(LOOK_AHEADS_MS), model.expressions, -1)
    bias = net.out.bias.view(len(LOOK_AHEADS_MS), model.expressions)
    for index, look_ahead_ms in enumerate(LOOK_AHEADS_MS):
        ratios = []
        for clip in clips:
            truth, known = targets(clip, 0.0, len(clip.mels) // MELS_PER_STEP, look_ahead_ms)
            use = known > 0
            use[:SETTLE_STEPS] = False
            if use.sum() > SETTLE_STEPS:
                said = predict(net, clip.mels, look_ahead_ms)
                ratios.append(np.std((said @ opening_of)[use]) / np.std((truth @ opening_of)[use]))
        factor = float(np.clip(1 / np.median(ratios), 1, MOST_WIDENING)) if ratios else 1.0
        answers[index] *= factor
        bias[index] *= factor


def _new_net(clips: Sequence[SpokenClip], model: FaceModel, front: SpeechFront, seed: int) -> AudioNet:
    torch.manual_seed(seed)
    sampler = Sampler(clips, seed)
    mels = np.concatenate([clip.mels for clip in clips])
    spread = np.sqrt(np.mean(np.concatenate([clip.expression for clip in clips]) ** 2, 0))
    net = AudioNet(model.expressions)
    net.front.load_state_dict(front.state_dict())
    net.offset.copy_(torch.from_numpy(mels.mean(0)))
    net.gain.copy_(torch.from_numpy(1 / mels.std(0)))
    net.scale.copy_(torch.from_numpy(spread))
    heard = torch.from_numpy(np.stack([sampler.draw().mels for _ in range(FRONT_CLIPS)]))
    fast, slow, _ = net.front(torch.cat([heard[:, :2], heard], 1), net.initial_state(FRONT_CLIPS)[2])
    for name, features in {"fast": fast, "slow": slow}.items():
        getattr(net, f"{name}_offset").copy_(features.mean((0, 1)))
        getattr(net, f"{name}_gain").copy_(1 / (features.std((0, 1)) + LEAST_SPREAD))
    return net


def _loss_of_batch(net: AudioNet, styles: nn.Embedding, sampler: Sampler, loss_of: "SpeechLoss") -> Tensor:
    samples = [sampler.draw() for _ in range(BATCH)]
    told = [
        s.speaker if s.speaker is not None and sampler.rng.random() < STYLE_SHARE else None for s in samples
    ]
    style = torch.stack([torch.zeros(STYLE_SIZE) if who is None else styles.weight[who] for who in told])
    mels, truth, known = (
        torch.from_numpy(np.stack([getattr(s, name) for s in samples]))
        for name in ("mels", "expression", "known")
    )
    mel_history, stem_history, front_history, memory = net.initial_state(BATCH)
    heard = torch.cat([mel_history, mels], 1)
    fast, slow, _ = net.front(heard[:, 1:], front_history)
    predicted = net.answers(heard, fast, slow, style, stem_history, memory)[0]
    result: Tensor = loss_of(predicted, truth, known)
    return result


class SpeechLoss:
    """The loss of expressions [B, 4, T, E] against the truth, where it is known [B, 4, T]."""

    def __init__(self, model: FaceModel) -> None:
        weight = np.where(np.isin(model.lower, LIPS), LIP_WEIGHT, SKIN_WEIGHT)[:, None]
        basis = (model.basis[:, model.lower] * np.sqrt(weight)).reshape(model.expressions, -1)
        self._metric = torch.from_numpy((basis @ basis.T / weight.sum()).astype(np.float32))
        self._opening = torch.from_numpy(aperture(model.basis).astype(np.float32))
        self._look_ahead = torch.tensor(LOOK_AHEAD_WEIGHTS)[:, None]

    def __call__(self, predicted: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """One number."""
        error = predicted - truth
        velocity = error[..., 1:, :] - error[..., :-1, :]
        weight = known * self._look_ahead
        both = known[..., 1:] * weight[..., :-1]
        opening, true_opening = predicted @ self._opening, truth @ self._opening
        closure = torch.relu(opening - true_opening - 0.05) * (true_opening < CLOSED_CM)
        variation = (_deviation(opening, known) - _deviation(true_opening, known)) ** 2
        return (
            _mean(((error @ self._metric) * error).sum(-1), weight)
            + VELOCITY * _mean(((velocity @ self._metric) * velocity).sum(-1), both)
            + OPENING * _mean((opening - true_opening) ** 2, weight)
            + CLOSURE * _mean(closure, weight)
            + VARIATION * variation.mean()
        )


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    return (value * weight).sum() / (weight.sum() + 1e-6)


def _deviation(value: Tensor, weight: Tensor) -> Tensor:
    share = weight / (weight.sum(-1, keepdim=True) + 1e-6)
    centred = value - (share * value).sum(-1, keepdim=True)
    return ((share * centred**2).sum(-1) + 1e-4).sqrt()


@torch.no_grad()
def score(
    net: AudioNet, clips: Sequence[SpokenClip], model: FaceModel, look_ahead_ms: int = 120
) -> AudioScore:
    """How well the average style predicts these clips."""
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
        closed = true <= np.quantile(true, 0.12)
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
