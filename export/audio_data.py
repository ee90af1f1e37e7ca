"""Footage as the audio-to-expression model is trained on it: log-mels, and expressions over time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.arrays import F32, F64
from engine.expression.audio import LOOK_AHEADS_MS, SILENCE, STEP_MS
from engine.face.fit import Fitter
from engine.face.model import FaceModel
from export.audio_augment import disturbed, not_speech
from export.training_set import PackedClip

SETTLE_STEPS = 10  # of a sample, before which the front end has not heard all it would have
WINDOW_STEPS = 72  # of a training sample: 2.88 s
MELS_PER_STEP = STEP_MS // 10
SILENCE_SHARE = 0.08
HEARD_SHARE = 0.6  # of samples, whose sound was disturbed as a waveform, where a clip has that
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
        heard: the same sound heard otherwise, float32 [M, 80] each.
    """

    identity: str
    split: str
    mels: F32
    time_s: F64
    expression: F32
    heard: tuple[F32, ...] = ()


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
    return SpokenClip(packed.clip.identity, packed.clip.split, mels, time_s, expression, packed.heard_mels())


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
    return _at(clip, step_times_s(first_s, steps, look_ahead_ms))


def _at(clip: SpokenClip, times: F64) -> tuple[F32, F32]:
    columns = [np.interp(times, clip.time_s, column) for column in clip.expression.T]
    known = (times >= clip.time_s[0]) & (times <= clip.time_s[-1])
    return np.stack(columns, 1).astype(np.float32), known.astype(np.float32)


@dataclass(frozen=True)
class Sample:
    """One training sample of T steps, with the answer that each of the four look-aheads should give.

    Attributes:
        mels: float32 [4 T, 80].
        expression: float32 [4, T, E]; known: float32 [4, T], 0 or 1, where it is.
        speaker: index of the person, None if unknown.
    """

    mels: F32
    expression: F32
    known: F32
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
        self._voices = [clip.mels for clip in clips]

    def draw(self) -> Sample:
        """The next sample; a share of them is no speech, whose answer is lips at rest."""
        if self.rng.random() < SILENCE_SHARE:
            return self._silence()
        clip = self.clips[self.rng.choice(len(self.clips), p=self._weight)]
        speed = self.rng.uniform(0.86, 1.16)
        mels = clip.mels
        if clip.heard and self.rng.random() < HEARD_SHARE:
            mels = clip.heard[int(self.rng.integers(len(clip.heard)))]
        window, first_s = self._window(mels, speed)
        answers, known = [], []
        for look_ahead_ms in LOOK_AHEADS_MS:
            times = step_times_s(first_s, WINDOW_STEPS, look_ahead_ms) * speed
            answer, is_known = _at(clip, times)
            quiet = times < min(0.0, clip.time_s[0]) - ONSET_S
            answer[quiet], is_known[quiet] = 0, 1
            is_known[:SETTLE_STEPS] = 0
            answers.append(answer)
            known.append(is_known)
        heard = disturbed(window, self.rng, self._voices)
        return Sample(heard, np.stack(answers), np.stack(known), self.people.index(clip.identity))

    def _silence(self) -> Sample:
        mels = not_speech(WINDOW_STEPS * MELS_PER_STEP, self.rng, self._voices)
        shape = (len(LOOK_AHEADS_MS), WINDOW_STEPS)
        rest = np.zeros((*shape, self.clips[0].expression.shape[1]), np.float32)
        return Sample(mels, rest, np.ones(shape, np.float32), None)

    def _window(self, mels: F32, speed: float) -> tuple[F32, float]:
        """A window of a clip heard at `speed`, and the media time, at that speed, where it begins.

        One in five begins before the clip, in silence.
        """
        need = WINDOW_STEPS * MELS_PER_STEP
        start = int(self.rng.integers(max(1, int(len(mels) / speed) - need + 1)))
        if self.rng.random() < 0.2:
            start = -int(self.rng.integers(60))
        position = (start + np.arange(need)) * speed
        inside = (position >= 0) & (position < len(mels) - 1)
        low = np.clip(position.astype(int), 0, len(mels) - 2)
        share = np.clip(position - low, 0, 1)[:, None]
        window = np.where(inside[:, None], mels[low] * (1 - share) + mels[low + 1] * share, SILENCE)
        return np.asarray(window, np.float32), start / 100
