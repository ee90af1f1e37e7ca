"""Train audio-to-expression on real footage: `livedub train audio`.

Teachers, who hear past and future with a recogniser's ear (`export.teacher`), learn from footage. The network
that ships learns from footage moved towards what they say, and from what they say of sounds that nobody was
filmed to. Then, with everything else fixed, from footage alone what style codes do. It is a running mean of
its weights. Sounds are disturbed and heard by the front end beforehand (`export.audio_views`).

Where no recogniser is installed, networks of the same kind as the one that ships are its teachers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from engine.arrays import F32
from engine.expression.audio import LOOK_AHEADS_MS, STYLE_SIZE
from engine.face.model import FaceModel, aperture
from export.audio_data import MELS_PER_STEP, SETTLE_STEPS, SpokenClip, step_times_s, targets
from export.audio_net import AudioNet
from export.audio_views import Closures, Heard, View, ViewSampler, clean_view, silent_views, views_of
from export.listener import Listener
from export.speech_front import SpeechFront
from export.speech_loss import SpeechLoss, closing_direction, closure_loss
from export.teacher import STEPS as TEACHER_STEPS
from export.teacher import Teachers, lesson_of, train_teacher

RATE, WEIGHT_DECAY, BATCH = 1.5e-3, 0.02, 32
VIEWS, SOUND_VIEWS = 8, 3  # ways in which footage, and other sounds, are heard
TEACHER_VIEWS = 5  # of footage, that teachers learn from; the first is as it is
LEAST_SPREAD = 0.05  # of the front end's features, that they are scaled by
MEMORY, WARM_UP_STEPS = 0.98, 50  # of the running mean of weights; of the rate
TEACHERS, OWN_TEACHERS = 3, 2  # with a recogniser's ear; without
TEACHERS_SHARE, OWN_SHARE = 0.8, 0.6  # of what the network learns from footage
SOUND_SHARE = 0.35  # of windows, of sounds that nobody was filmed to
STYLE_STEPS, STYLE_RATE, CODE_RATE, CODE_PRIOR = 70, 0.01, 0.05, 2e-3
MOST_WIDENING = 1.6
LEADS = (0.75, 0.25, 0.0, 0.0)  # steps by which each look-ahead's answer is moved on the way it goes
DOUBT, NEVER = -0.5, 50.0  # logits of a closure, above which the lips are shut


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


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound that nobody was filmed to.

    Attributes:
        mels: float32 [M, 80] at 100 Hz.
        shut: where p, b, m and their kin are, if that is known.
    """

    mels: F32
    shut: Closures | None = None


@dataclass(frozen=True)
class AudioProgress:
    """One line of a training log; no score while teachers learn who need none."""

    step: int
    loss: float
    score: AudioScore | None


def train_audio_net(
    clips: Sequence[SpokenClip],
    held_out: Sequence[SpokenClip],
    model: FaceModel,
    front: SpeechFront,
    *,
    steps: int,
    listener: Listener | None = None,
    sounds: Sequence[Sound] = (),
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
        steps: of the network that ships.
        listener: a recogniser's ear, for teachers; None: networks like the one that ships teach it.
        sounds: that nobody was filmed to; not used without a listener.
        seed: decides everything.
        on_progress: told of scores; its step counts on over all parts, up to `steps_in_all`.
        every: so many steps, and at the end of each part.
    """

    def tell(step: int, loss: float, net: AudioNet | None) -> None:
        if on_progress:
            on_progress(AudioProgress(step, loss, score(net, held_out, model) if net else None))

    listens = listener is not None
    heard, silence = _heard(clips, front, seed)
    if listener is not None:
        taught, spoken = _taught_by_listening(heard, sounds, model, front, listener, seed, tell)
    else:
        taught, spoken = _taught_by_kin(heard, silence, model, front, steps // 2, seed, tell), []
    done = steps_in_all(steps, listens=listens) - steps - STYLE_STEPS
    net = _new_net(heard, model, front, seed)
    sampler = ViewSampler(taught, spoken, silence, seed, sound_share=SOUND_SHARE)
    for step, loss in _train(net, sampler, model, steps, every):
        tell(done + step, loss, net)
    _learn_styles(net, ViewSampler(heard, [], [], seed), model)
    net.lead.copy_(torch.tensor(LEADS))
    _widen(net, clips, model)
    _shut(net, model, trained=listens)
    tell(done + steps + STYLE_STEPS, 0.0, net)
    return net, score(net, held_out, model)


def steps_in_all(steps: int, *, listens: bool) -> int:
    """Steps of all parts of a training, with a recogniser's ear or without."""
    before = TEACHERS * TEACHER_STEPS if listens else OWN_TEACHERS * (steps // 2)
    return before + steps + STYLE_STEPS


def _heard(clips: Sequence[SpokenClip], front: SpeechFront, seed: int) -> tuple[list[Heard], list[View]]:
    """Clips as they are heard, the first time as they are; and silence."""
    rng, voices = np.random.default_rng(seed), [clip.mels for clip in clips]
    heard = [
        Heard(clip, [clean_view(clip.mels, front), *views_of(clip, VIEWS, front, rng, voices)])
        for clip in clips
    ]
    return heard, silent_views(front, rng, voices)


def _taught_by_listening(
    heard: Sequence[Heard],
    sounds: Sequence[Sound],
    model: FaceModel,
    front: SpeechFront,
    listener: Listener,
    seed: int,
    tell: Callable[[int, float, None], None],
) -> tuple[list[Heard], list[Heard]]:
    """Footage moved towards what teachers with a recogniser's ear say, and what they say of other sounds."""
    rng, voices = np.random.default_rng(seed), [one.clip.mels for one in heard]
    others = []
    for sound in sounds:
        ends_s, rest = np.array([0.0, len(sound.mels) / 100]), np.zeros((2, model.expressions), np.float32)
        clip = SpokenClip("", "sound", sound.mels, ends_s, rest)
        views = [clean_view(clip.mels, front), *views_of(clip, SOUND_VIEWS, front, rng, voices)]
        others.append(Heard(clip, views, sound.shut))
    footage = [lesson_of(replace(one, views=one.views[:TEACHER_VIEWS]), listener) for one in heard]
    known = [lesson_of(replace(one, views=one.views[:2]), listener) for one in others if one.shut]
    nets, done = [], 0
    for index in range(TEACHERS):
        for net in train_teacher(footage, known, model, seed + index):
            done += 1
            if net is not None:
                nets.append(net)
                tell(done, 0.0, None)
    teachers = Teachers(nets, listener)
    taught = [teachers.softened(one, TEACHERS_SHARE) for one in heard]
    return taught, [teachers.spoken(one) for one in others]


def _taught_by_kin(
    heard: Sequence[Heard],
    silence: Sequence[View],
    model: FaceModel,
    front: SpeechFront,
    steps: int,
    seed: int,
    tell: Callable[[int, float, AudioNet], None],
) -> list[Heard]:
    """Footage moved towards what networks like the one that ships say with most look-ahead."""
    nets: list[AudioNet] = []
    for index in range(OWN_TEACHERS):
        nets.append(_new_net(heard, model, front, seed + index))
        sampler = ViewSampler(heard, [], silence, seed + index)
        for step, loss in _train(nets[-1], sampler, model, steps, steps):
            tell(index * steps + step, loss, nets[-1])
    return [replace(one, clip=softened(one.clip, nets)) for one in heard]


def _train(
    net: AudioNet, sampler: ViewSampler, model: FaceModel, steps: int, every: int
) -> Iterator[tuple[int, float]]:
    """Train; now and then, and at the end, `net` holds the running mean, and step and loss are given."""
    loss_of = SpeechLoss(model)
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learned, RATE, weight_decay=WEIGHT_DECAY)
    mean = [parameter.detach().clone() for parameter in learned]
    for step in range(1, steps + 1):
        for group in optimiser.param_groups:
            cosine = 0.5 * (1 + np.cos(np.pi * (step - 1) / steps))
            group["lr"] = RATE * min(1, step / WARM_UP_STEPS) * (0.03 + 0.97 * cosine)
        batch = _answers(net.train(), sampler, None)
        loss = loss_of(batch.said, batch.truth, batch.known) + closure_loss(
            batch.logits, batch.shut, batch.told
        )
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
            yield step, loss.item()
            if step < steps:
                _assign(learned, now)


def _learn_styles(net: AudioNet, sampler: ViewSampler, model: FaceModel) -> None:
    """Learn from footage alone how people differ, in standard deviations, with all else as it is."""
    torch.manual_seed(0)
    loss_of = SpeechLoss(model)
    codes = nn.Embedding(len(sampler.people), STYLE_SIZE)
    nn.init.normal_(codes.weight, std=0.3)
    layers = [net.condition.weight, net.stretch.weight]
    for layer in layers:
        nn.init.normal_(layer, std=0.05)
    groups = [{"params": layers, "share": STYLE_RATE}, {"params": [codes.weight], "share": CODE_RATE}]
    optimiser = torch.optim.Adam(groups)
    fixed = [parameter for parameter in net.eval().parameters() if parameter.requires_grad]
    for parameter in fixed:
        parameter.requires_grad_(any(parameter is layer for layer in layers))
    for step in range(STYLE_STEPS):
        for group in optimiser.param_groups:
            cosine = 0.5 * (1 + np.cos(np.pi * step / STYLE_STEPS))
            group["lr"] = group["share"] * (0.05 + 0.95 * cosine)
        batch = _answers(net, sampler, codes.weight)
        loss = loss_of.error(batch.said, batch.truth, batch.known) + CODE_PRIOR * (batch.style**2).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for parameter in fixed:
        parameter.requires_grad_(True)
    with torch.no_grad():
        spread = codes.weight.T @ codes.weight / len(codes.weight) + 1e-4 * torch.eye(STYLE_SIZE)
        root = torch.linalg.cholesky(spread)
        for layer in layers:
            layer.copy_(layer @ root)


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
    share = OWN_SHARE * ((clip.time_s >= times[0]) & (clip.time_s <= times[-1]))[:, None]
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


def _new_net(heard: Sequence[Heard], model: FaceModel, front: SpeechFront, seed: int) -> AudioNet:
    torch.manual_seed(seed)
    net = AudioNet(model.expressions)
    net.front.load_state_dict(front.state_dict())
    views = [one.views[-1] for one in heard]
    for name, least in {"mels": 0.0, "fast": LEAST_SPREAD, "slow": LEAST_SPREAD}.items():
        features = np.concatenate([getattr(view, name)[::2] for view in views]).astype(np.float32)
        prefix = "" if name == "mels" else f"{name}_"
        getattr(net, f"{prefix}offset").copy_(torch.from_numpy(features.mean(0)))
        getattr(net, f"{prefix}gain").copy_(torch.from_numpy(1 / (features.std(0) + least)))
    moved = np.concatenate([one.clip.expression for one in heard])
    net.scale.copy_(torch.from_numpy(np.sqrt(np.mean(moved**2, 0))))
    return net


@dataclass(frozen=True, eq=False)
class _Batch:
    """A batch of windows and what the network says of it; as of `Window` and `AudioNet.answers`."""

    said: Tensor
    logits: Tensor
    truth: Tensor
    known: Tensor
    shut: Tensor
    told: Tensor
    style: Tensor


def _answers(net: AudioNet, sampler: ViewSampler, codes: Tensor | None) -> _Batch:
    """What the network says of the sampler's next windows.

    Args:
        net: the network.
        sampler: whose windows to take.
        codes: of the sampler's people, float32 [P, 8]; None tells nobody apart.
    """
    windows = [sampler.draw() for _ in range(BATCH)]
    nobody = torch.zeros(STYLE_SIZE)
    style = torch.stack(
        [nobody if codes is None or one.speaker is None else codes[one.speaker] for one in windows]
    )
    heard, fast, slow, truth, known, shut, told = (
        torch.from_numpy(np.stack([getattr(one, name) for one in windows]))
        for name in ("heard", "fast", "slow", "expression", "known", "shut", "told")
    )
    _, stem_history, _, memory, _ = net.initial_state(BATCH)
    said, logits, _, _ = net.answers(heard, fast, slow, style, stem_history, memory)
    return _Batch(said, logits, truth, known, shut, told, style)


@torch.no_grad()
def _shut(net: AudioNet, model: FaceModel, *, trained: bool) -> None:
    """Let the network shut the lips where it is told of closures, else never."""
    net.opening.copy_(torch.from_numpy(aperture(model.basis).astype(np.float32)))
    net.closing.copy_(torch.from_numpy(closing_direction(model)))
    net.doubt.fill_(DOUBT if trained else NEVER)


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
