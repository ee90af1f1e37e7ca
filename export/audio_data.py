"""Footage as the audio-to-expression model is trained on it: log-mels, and expressions over time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.arrays import F32, F64
from engine.expression.audio import LOOK_AHEADS_MS, SILENCE, STEP_MS
from engine.face.fit import Fitter
from engine.face.model import FaceModel
from export.training_set import PackedClip

WINDOW_STEPS = 64  # of a training sample: 2.56 s
MELS_PER_STEP = STEP_MS // 10
SILENCE_SHARE = 0.08
ONSET_S = 0.15  # lips leave rest this long before the first sound, at most
MIN_FOUND, MIN_FRAMES = 0.9, 40


@dataclass(frozen=True)
class SpokenClip:
    """One clip.

    Attributes:
        identity: who speaks; split: of the data set.
        mels: float32 [M, 80] at 100 Hz.
        time_s: float64 [F], when each picture's sound is; increasing.
        expression: float32 [F, E].
    """

    identity: str
    split: str
    mels: F32
    time_s: F64
    expression: F32


def read_spoken(packed: PackedClip, model: FaceModel) -> SpokenClip | None:
    """A clip's sound and motion; None where the face is lost too often or there is no sound that fits."""
    mels = packed.log_mels()
    if mels is None or not packed.clip.speaks:
        return None
    if packed.found.sum() < MIN_FRAMES or packed.found.mean() < MIN_FOUND:
        return None
    fitter = Fitter(model, packed.neutral)
    seen = packed.all_landmarks()[packed.found]
    expression = np.stack([fitter.fit(frame).expression for frame in seen])
    time_s = packed.time_s[packed.found] - packed.clip.late_s
    return SpokenClip(packed.clip.identity, packed.clip.split, mels, time_s, expression)


def step_times_s(first_s: float, steps: int, look_ahead_ms: int) -> F64:
    """Media times, float64 [steps], that the steps of sound from `first_s` on speak about."""
    return np.asarray(first_s + (np.arange(steps) + 1) * STEP_MS / 1000 - look_ahead_ms / 1000, np.float64)


def targets(clip: SpokenClip, first_s: float, steps: int, look_ahead_ms: int) -> tuple[F32, F32]:
    """What the steps should say, float32 [steps, E], and where that is known, float32 [steps] 0 or 1.

    Args:
        clip: the clip.
        first_s: media time at which the first step's sound begins.
        steps: how many.
        look_ahead_ms: the expression is of this much earlier than the end of its step's sound.
    """
    times = step_times_s(first_s, steps, look_ahead_ms)
    columns = [np.interp(times, clip.time_s, column) for column in clip.expression.T]
    known = (times >= clip.time_s[0]) & (times <= clip.time_s[-1])
    return np.stack(columns, 1).astype(np.float32), known.astype(np.float32)


@dataclass(frozen=True)
class Sample:
    """One training sample of T steps.

    Attributes:
        mels: float32 [4 T, 80].
        expression: float32 [T, E]; known: float32 [T], 0 or 1, where it is.
        look_ahead: index into LOOK_AHEADS_MS; speaker: index of the person, None if unknown.
    """

    mels: F32
    expression: F32
    known: F32
    look_ahead: int
    speaker: int | None


class Sampler:
    """Draws disturbed windows of clips; people weigh by the square root of how much they say."""

    def __init__(self, clips: Sequence[SpokenClip], seed: int) -> None:
        self.clips, self.rng = clips, np.random.default_rng(seed)
        self.people = sorted({clip.identity for clip in clips})
        said = {
            person: sum(len(c.expression) for c in clips if c.identity == person) for person in self.people
        }
        weight = np.array([len(clip.expression) / said[clip.identity] ** 0.5 for clip in clips])
        self._weight = weight / weight.sum()

    def draw(self) -> Sample:
        """The next sample; a share of them is silence with noise, whose answer is lips at rest."""
        if self.rng.random() < SILENCE_SHARE:
            return self._silence()
        clip = self.clips[self.rng.choice(len(self.clips), p=self._weight)]
        look_ahead = int(self.rng.integers(len(LOOK_AHEADS_MS)))
        speed = self.rng.uniform(0.88, 1.14)
        faster = SpokenClip(
            clip.identity, clip.split, _stretched(clip.mels, speed), clip.time_s / speed, clip.expression
        )
        window, first_s = self._window(faster.mels)
        expression, known = targets(faster, first_s, WINDOW_STEPS, LOOK_AHEADS_MS[look_ahead])
        quiet = (
            step_times_s(first_s, WINDOW_STEPS, LOOK_AHEADS_MS[look_ahead])
            < min(0.0, faster.time_s[0]) - ONSET_S
        )
        expression[quiet], known[quiet] = 0, 1
        who = self.people.index(clip.identity)
        return Sample(self._disturbed(window), expression, known, look_ahead, who)

    def _silence(self) -> Sample:
        level = self.rng.uniform(SILENCE, -4)
        colour = np.cumsum(self.rng.normal(0, 0.15, 80))
        noise = level + colour + self.rng.normal(0, 0.5, (WINDOW_STEPS * MELS_PER_STEP, 80))
        size = self.clips[0].expression.shape[1]
        rest = np.zeros((WINDOW_STEPS, size), np.float32)
        mels = np.asarray(np.maximum(noise, SILENCE), np.float32)
        look_ahead = int(self.rng.integers(len(LOOK_AHEADS_MS)))
        return Sample(mels, rest, np.ones(WINDOW_STEPS, np.float32), look_ahead, None)

    def _window(self, mels: F32) -> tuple[F32, float]:
        """A window of a clip's mels and the media time where it begins; one in five begins in silence."""
        need = WINDOW_STEPS * MELS_PER_STEP
        start = int(self.rng.integers(max(1, len(mels) - need + 1)))
        silent = int(self.rng.integers(40)) if self.rng.random() < 0.2 else 0
        if silent:
            start = 0
        head = np.full((silent, mels.shape[1]), SILENCE)
        window = np.concatenate([head, mels[start:]])[:need]
        tail = np.full((need - len(window), mels.shape[1]), SILENCE)
        return np.concatenate([window, tail]).astype(np.float32), (start - silent) / 100

    def _disturbed(self, mels: F32) -> F32:
        """Vocal tract length, level, tilt, another voice or noise, missing bands and drop-outs."""
        rng = self.rng
        tilt = np.cumsum(rng.normal(0, 0.06, mels.shape[1]))
        heard = _warped(mels, rng.uniform(0.85, 1.18)) + rng.normal(0, 1.2) + tilt
        if rng.random() < 0.5:
            heard = np.asarray(np.logaddexp(heard, self._background(len(heard))), np.float64)
        if rng.random() < 0.5:
            band = int(rng.integers(70))
            heard[:, band : band + int(rng.integers(4, 16))] = rng.uniform(SILENCE, -6)
        if rng.random() < 0.3:
            start = int(rng.integers(len(heard) - 10))
            heard[start : start + int(rng.integers(3, 9))] = SILENCE
        return np.asarray(np.maximum(heard, SILENCE), np.float32)

    def _background(self, length: int) -> F64:
        rng = self.rng
        other = self.clips[int(rng.integers(len(self.clips)))].mels
        if rng.random() < 0.4 and len(other) > length:
            start = int(rng.integers(len(other) - length))
            return np.asarray(other[start : start + length] - rng.uniform(2.5, 8), np.float64)
        colour = rng.uniform(-13, -6) + np.cumsum(rng.normal(0, 0.15, 80))
        return np.asarray(colour + rng.normal(0, 0.4, (length, 80)), np.float64)


def _stretched(mels: F32, speed: float) -> F32:
    position = np.arange(int(len(mels) / speed)) * speed
    low = np.minimum(position.astype(int), len(mels) - 2)
    share = (position - low)[:, None]
    return np.asarray(mels[low] * (1 - share) + mels[low + 1] * share, np.float32)


def _warped(mels: F32, factor: float) -> F64:
    position = np.clip(np.arange(mels.shape[1]) * factor, 0, mels.shape[1] - 1)
    low = np.minimum(position.astype(int), mels.shape[1] - 2)
    share = position - low
    return np.asarray(mels[:, low] * (1 - share) + mels[:, low + 1] * share, np.float64)
