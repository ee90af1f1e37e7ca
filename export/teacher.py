"""Teachers: networks that hear past and future with a recogniser's ear, and say what mouths do.

What a live network is asked to learn from them instead of from footage alone has no chance in it: a teacher
that has not seen a person says 0.77 of how the lips open (Pearson's r), a live one with 240 ms of look-ahead
0.66. And a teacher tells what belongs to a sound that nobody was filmed to.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.arrays import F32, F64, Array
from engine.expression.audio import STEP_MS
from engine.face.model import FaceModel
from export.audio_data import WINDOW_STEPS
from export.audio_views import Closures, Heard, at_times
from export.listener import LAYERS_KEPT, WIDTH, Listener
from export.speech_loss import SpeechLoss, closure_loss

HIDDEN = 96
LAYER_DROPOUT, DROPOUT = 0.5, 0.2
STEPS, RATE, WARM_UP_STEPS, WEIGHT_DECAY, BATCH, MEMORY = 130, 1.5e-3, 50, 0.05, 32, 0.98
SETTLE_STEPS = 3  # at either end of a window
SOUND_SHARE = 0.3  # of windows, of sounds whose closures are known


class TeacherNet(nn.Module):
    """A recogniser's features [B, 2 n, 3, 384] to what mouths do in the middles of their steps.

    Args:
        expressions: E.
    """

    offset: Tensor
    gain: Tensor
    scale: Tensor

    def __init__(self, expressions: int) -> None:
        super().__init__()
        self.first = nn.Linear(LAYERS_KEPT * WIDTH, HIDDEN)
        self.second = nn.Conv1d(HIDDEN, HIDDEN, 4, 2, 1)
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * HIDDEN, expressions)
        self.shut = nn.Linear(2 * HIDDEN, 1)
        self.register_buffer("offset", torch.zeros(LAYERS_KEPT, WIDTH))
        self.register_buffer("gain", torch.ones(LAYERS_KEPT, WIDTH))
        self.register_buffer("scale", torch.ones(expressions))

    def forward(self, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Expressions [B, n, E], and logits [B, n] of p, b, m and their kin."""
        x = (heard - self.offset) * self.gain
        if self.training:  # a feature is missing all the time
            x = x * (torch.rand(len(x), 1, *x.shape[2:]) > LAYER_DROPOUT) / (1 - LAYER_DROPOUT)
        y = F.dropout(F.gelu(self.first(x.flatten(2))), DROPOUT, self.training)
        y = F.gelu(self.second(y.transpose(1, 2))).transpose(1, 2)
        y, _ = self.gru(F.dropout(y, DROPOUT, self.training))
        y = F.dropout(y, DROPOUT, self.training)
        return self.out(y) * self.scale, self.shut(y)[..., 0]


@dataclass(frozen=True, eq=False)
class Lesson:
    """Something heard, and what a recogniser makes of it.

    Attributes:
        heard: footage, or a sound whose closures are known.
        features: float16 [2 n, 3, 384] of each view.
    """

    heard: Heard
    features: Sequence[Array]


def lesson_of(heard: Heard, listener: Listener) -> Lesson:
    """Something heard as teachers learn from it."""
    features = [listener.features(view.mels.astype(np.float32)).astype(np.float16) for view in heard.views]
    return Lesson(heard, features)


class Teachers:
    """Some trained teachers, of whose answers the mean is taken.

    Args:
        nets: they.
        listener: their ear.
    """

    def __init__(self, nets: Sequence[TeacherNet], listener: Listener) -> None:
        self._nets, self._listener = [net.eval() for net in nets], listener

    @torch.no_grad()
    def answers(self, mels: F32) -> tuple[F32, Closures]:
        """What they say of log-mels [M, 80]: expressions float32 [n, E], and closures, with their times."""
        heard = torch.from_numpy(self._listener.features(mels))[None]
        said = [net(heard) for net in self._nets]
        expression = torch.stack([one[0][0] for one in said]).mean(0).numpy()
        shut = torch.stack([torch.sigmoid(one[1][0]) for one in said]).mean(0).numpy()
        return np.asarray(expression, np.float32), Closures(middles_s(np.arange(len(shut))), shut)

    def softened(self, heard: Heard, share: float) -> Heard:
        """Footage with its motion moved by `share` towards what they say, and the closures that they hear."""
        clip = heard.clip
        said, shut = self.answers(clip.mels)
        taught = np.stack([np.interp(clip.time_s, shut.time_s, column) for column in said.T], 1)
        within = share * ((clip.time_s >= shut.time_s[0]) & (clip.time_s <= shut.time_s[-1]))[:, None]
        moved = ((1 - within) * clip.expression + within * taught).astype(np.float32)
        return replace(heard, clip=replace(clip, expression=moved), shut=shut)

    def spoken(self, heard: Heard) -> Heard:
        """A sound that nobody was filmed to, with the motion that they say belongs to it."""
        said, shut = self.answers(heard.clip.mels)
        return replace(
            heard,
            clip=replace(heard.clip, expression=said, time_s=shut.time_s),
            shut=heard.shut if heard.shut is not None else shut,
        )


def middles_s(steps: Array) -> F64:
    """When the middles of steps are."""
    return np.asarray((steps + 0.5) * STEP_MS / 1000, np.float64)


def train_teacher(
    footage: Sequence[Lesson], sounds: Sequence[Lesson], model: FaceModel, seed: int
) -> Iterator[TeacherNet | None]:
    """Train one; None after each step but the last, then the network."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net, loss_of = _new(footage, model), SpeechLoss(model, look_aheads=1)
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    mean = [parameter.detach().clone() for parameter in net.parameters()]
    weight, share = _weights(footage), SOUND_SHARE if sounds else 0.0
    for step in range(1, STEPS + 1):
        for group in optimiser.param_groups:
            cosine = 0.5 * (1 + np.cos(np.pi * (step - 1) / STEPS))
            group["lr"] = RATE * min(1, step / WARM_UP_STEPS) * (0.03 + 0.97 * cosine)
        chosen = [
            sounds[int(rng.integers(len(sounds)))]
            if rng.random() < share
            else footage[int(rng.choice(len(footage), p=weight))]
            for _ in range(BATCH)
        ]
        drawn = [_draw(lesson, rng) for lesson in chosen]
        heard, truth, known, shut, asked = (torch.from_numpy(np.stack(p)) for p in zip(*drawn, strict=True))
        said, logit = net(heard)
        loss = loss_of(said[:, None], truth[:, None], known[:, None]) + closure_loss(logit, shut, asked)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        for kept, parameter in zip(mean, net.parameters(), strict=True):
            kept.lerp_(parameter.detach(), 1 - min(MEMORY, step / (step + 9)))
        if step < STEPS:
            yield None
    with torch.no_grad():
        for kept, parameter in zip(mean, net.parameters(), strict=True):
            parameter.copy_(kept)
    yield net.eval()


def _new(lessons: Sequence[Lesson], model: FaceModel) -> TeacherNet:
    net = TeacherNet(model.expressions)
    sample = np.concatenate([one.features[0][::4] for one in lessons]).astype(np.float32)
    moved = np.concatenate([one.heard.clip.expression for one in lessons])
    net.offset.copy_(torch.from_numpy(sample.mean(0)))
    net.gain.copy_(torch.from_numpy(1 / (sample.std(0) + 1e-3)))
    net.scale.copy_(torch.from_numpy(np.sqrt(np.mean(moved**2, 0))))
    return net


def _weights(lessons: Sequence[Lesson]) -> F64:
    """People weigh by the square root of how much they say."""
    said: dict[str, int] = {}
    clips = [one.heard.clip for one in lessons]
    for clip in clips:
        said[clip.identity] = said.get(clip.identity, 0) + len(clip.mels)
    weight = np.array([len(clip.mels) / said[clip.identity] ** 0.5 for clip in clips])
    return np.asarray(weight / weight.sum(), np.float64)


def _draw(lesson: Lesson, rng: np.random.Generator) -> tuple[F32, F32, F32, F32, F32]:
    """A window's features; expressions and where these are known; closures and where these are."""
    pick = int(rng.integers(len(lesson.features)))
    view, features, heard = lesson.heard.views[pick], lesson.features[pick], lesson.heard
    first = int(rng.integers(max(1, view.steps - WINDOW_STEPS + 1)))
    inside = features[2 * first : 2 * (first + WINDOW_STEPS)].astype(np.float32)
    missing = 2 * WINDOW_STEPS - len(inside)
    times = view.media_s(middles_s(first + np.arange(WINDOW_STEPS)))
    truth, known = at_times(heard.clip, times)
    judged = np.ones(WINDOW_STEPS, np.float32)
    judged[:SETTLE_STEPS] = 0
    judged[max(0, len(inside) // 2 - SETTLE_STEPS) :] = 0
    shut = np.zeros(WINDOW_STEPS, np.float32) if heard.shut is None else heard.shut.at(times)
    known *= judged * (heard.shut is None)
    judged *= heard.shut is not None
    return np.pad(inside, ((0, missing), (0, 0), (0, 0)), mode="edge"), truth, known, shut, judged
