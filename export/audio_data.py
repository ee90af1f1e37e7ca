"""Footage as the audio-to-expression model is trained on it: log-mels, and expressions over time."""

from dataclasses import dataclass

import numpy as np

from engine.arrays import F32, F64
from engine.expression.audio import STEP_MS
from engine.face.fit import Fitter
from engine.face.model import FaceModel
from export.training_set import PackedClip

SETTLE_STEPS = 10  # of a sample, before which the front end has not heard all it would have
WINDOW_STEPS = 72  # of a training sample: 2.88 s
MELS_PER_STEP = STEP_MS // 10
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
