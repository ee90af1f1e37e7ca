"""Sounds as audio-to-expression learns from them: each disturbed some times and heard by the front end, once.

To hear a sound anew for every step of training would take most of its time. A view keeps half precision:
about 90 kB for each second of sound.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator

from engine.arrays import F32, F64, Array
from engine.audio.logmel import HOP_SAMPLES, LogMel
from engine.expression.audio import LOOK_AHEADS_MS, SILENCE, STEP_MS
from export.audio_augment import disturbed, not_speech
from export.audio_data import MELS_PER_STEP, ONSET_S, WINDOW_STEPS, SpokenClip
from export.speech_front import SpeechFront

LEAST_SPEED, MOST_SPEED = 0.86, 1.16
LEAD_STEPS, TAIL_STEPS = (4, 25), 15  # of silence before (at least, at most) and after
START_SHARE = 0.15  # of windows that begin where the sound does
SETTLE_STEPS = 6  # of a window, before which the recurrent part has not heard enough
HEARD_SHARE = 0.15  # of views, of a sound that was disturbed as a waveform, where a clip has that
SILENCE_SHARE = 0.15  # of windows
SILENT_VIEWS, SILENT_STEPS = 150, 100
QUIETEST_DBFS, LOUDEST_DBFS = -75.0, -25.0  # of noise that is made as a waveform
HISTORY_MELS = 3  # that a step's convolutions look back to


@dataclass(frozen=True, eq=False)
class View:
    """A sound heard one way.

    Attributes:
        mels: float16 [4 n, 80].
        fast: float16 [2 n, 576], slow: float16 [n, 384]: what the front end makes of it.
        speed: media seconds in a second heard.
        lead_s: of silence before the sound begins.
    """

    mels: Array
    fast: Array
    slow: Array
    speed: float
    lead_s: float

    @property
    def steps(self) -> int:
        """How many steps of 40 ms."""
        return len(self.slow)

    def media_s(self, heard_s: F64) -> F64:
        """Media times of times in this view."""
        return np.asarray((heard_s - self.lead_s) * self.speed, np.float64)


def clean_view(mels: F32, front: SpeechFront) -> View:
    """A sound as it is, from its beginning."""
    return View(*_heard(mels, front), 1.0, 0.0)


def views_of(
    clip: SpokenClip, count: int, front: SpeechFront, rng: Generator, others: Sequence[F32]
) -> list[View]:
    """A clip's sound heard `count` ways: at another speed, with silence around it, and disturbed.

    Args:
        clip: whose sound.
        count: how many.
        front: the front end.
        rng: decides.
        others: log-mels of other voices.
    """
    views = []
    for _ in range(count):
        mels = clip.mels
        if clip.heard and rng.random() < HEARD_SHARE:
            mels = clip.heard[int(rng.integers(len(clip.heard)))]
        speed = float(rng.uniform(LEAST_SPEED, MOST_SPEED))
        lead, tail = int(rng.integers(*LEAD_STEPS)) * MELS_PER_STEP, TAIL_STEPS * MELS_PER_STEP
        around = np.pad(at_speed(mels, speed), ((lead, tail), (0, 0)), constant_values=SILENCE)
        views.append(View(*_heard(disturbed(around, rng, others), front), speed, lead / 100))
    return views


def silent_views(front: SpeechFront, rng: Generator, others: Sequence[F32]) -> list[View]:
    """Sound that no mouth makes: a third is noise made as a waveform."""
    length = SILENT_STEPS * MELS_PER_STEP
    made = [
        not_speech(length, rng, others) if index % 3 else _noise(length, rng) for index in range(SILENT_VIEWS)
    ]
    return [View(*_heard(mels, front), 1.0, 0.0) for mels in made]


def _noise(length: int, rng: Generator) -> F32:
    """Steady noise of any colour and level, as log-mels [length, 80]."""
    spectrum = np.fft.rfft(rng.standard_normal(length * HOP_SAMPLES))
    coloured = np.fft.irfft(spectrum * (1 + np.arange(len(spectrum))) ** -rng.uniform(0, 1))
    level = 10 ** (rng.uniform(QUIETEST_DBFS, LOUDEST_DBFS) / 20) / coloured.std()
    return np.asarray(LogMel().offline((level * coloured).astype(np.float32)[None])[0], np.float32)


def at_speed(mels: F32, speed: float) -> F32:
    """Log-mels [T, 80] as if spoken faster or slower: [T / speed, 80]."""
    position = np.arange(int(len(mels) / speed)) * speed
    low = np.minimum(position.astype(int), len(mels) - 2)
    share = np.minimum(position - low, 1)[:, None]
    return np.asarray(mels[low] * (1 - share) + mels[low + 1] * share, np.float32)


@torch.no_grad()
def _heard(mels: F32, front: SpeechFront) -> tuple[Array, Array, Array]:
    whole = mels[: len(mels) // MELS_PER_STEP * MELS_PER_STEP]
    before = np.full((2, mels.shape[1]), SILENCE, np.float32)
    heard = torch.from_numpy(np.concatenate([before, whole]))[None]
    fast, slow, _ = front(heard, torch.zeros(1, len(front.silent)))
    return (
        whole.astype(np.float16),
        fast[0, 1:].numpy().astype(np.float16),
        slow[0].numpy().astype(np.float16),
    )


@dataclass(frozen=True, eq=False)
class Window:
    """A training sample of T steps, with the answer that each of the four look-aheads should give.

    Attributes:
        heard: float32 [3 + 4 T, 80]; fast: float32 [1 + 2 T, 576]; slow: float32 [T, 384]; each with what
            the step before leaves behind.
        expression: float32 [4, T, E]; known: float32 [4, T], 0 or 1, where it is.
        shut: float32 [4, T], 0..1, closures by their sounds; told: float32 [4, T], 0 or 1, where they are.
        speaker: index of the person, None if unknown.
    """

    heard: F32
    fast: F32
    slow: F32
    expression: F32
    known: F32
    shut: F32
    told: F32
    speaker: int | None


@dataclass(frozen=True, eq=False)
class Closures:
    """Where p, b, m and their kin are.

    Attributes:
        time_s: float64 [N], ascending media times.
        level: float32 [N], 0..1.
    """

    time_s: F64
    level: F32

    def at(self, times: F64) -> F32:
        """The level at media times, float32."""
        return np.interp(times, self.time_s, self.level).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Heard:
    """A clip, the ways in which it is heard, and where lips must close, if that is known."""

    clip: SpokenClip
    views: Sequence[View]
    shut: Closures | None = None


class ViewSampler:
    """Draws windows of views.

    Footage's people weigh by the square root of how much they say; sounds without a face, which have no
    identity, by how long they are.

    Args:
        footage: with people.
        sounds: without; a share `sound_share` of windows is of them.
        silence: of which a share is, too.
        seed: decides.
        sound_share: see there.
    """

    def __init__(
        self,
        footage: Sequence[Heard],
        sounds: Sequence[Heard],
        silence: Sequence[View],
        seed: int,
        *,
        sound_share: float = 0.0,
    ) -> None:
        self.rng, self._silence = np.random.default_rng(seed), silence
        self._groups = (footage, sounds)
        self._sound_share = sound_share if sounds else 0.0
        self.people = sorted({one.clip.identity for one in footage})
        self._index = {person: index for index, person in enumerate(self.people)}
        said = dict.fromkeys(self.people, 0)
        for one in footage:
            said[one.clip.identity] += len(one.clip.mels)
        weights = (
            np.array([len(one.clip.mels) / said[one.clip.identity] ** 0.5 for one in footage]),
            np.array([float(len(one.clip.mels)) for one in sounds]),
        )
        self._weights = tuple(weight / max(weight.sum(), 1e-9) for weight in weights)

    def draw(self) -> Window:
        """The next window; a share of them is no speech, whose answer is lips at rest."""
        if self._silence and self.rng.random() < SILENCE_SHARE:
            return self._silent()
        group = int(self.rng.random() < self._sound_share)
        pick = int(self.rng.choice(len(self._groups[group]), p=self._weights[group]))
        one = self._groups[group][pick]
        view = one.views[int(self.rng.integers(len(one.views)))]
        first = self._first(view)
        ends_s = (first + 1 + np.arange(WINDOW_STEPS)) * STEP_MS / 1000
        spoken_s = [ends_s - ahead / 1000 for ahead in LOOK_AHEADS_MS]
        answers = [_answer(one.clip, view, moments) for moments in spoken_s]
        known = np.stack([answer[1] for answer in answers])
        known[:, :SETTLE_STEPS] = 0
        known[:, max(0, view.steps - first) :] = 0
        expression = np.stack([answer[0] for answer in answers])
        told = known * (one.shut is not None)
        shut = (
            np.stack([one.shut.at(view.media_s(moments)) for moments in spoken_s])
            if one.shut
            else np.zeros_like(known)
        )
        return Window(*_cut(view, first), expression, known, shut, told, self._index.get(one.clip.identity))

    def _first(self, view: View) -> int:
        if self.rng.random() < START_SHARE:
            return 0
        return int(self.rng.integers(max(1, view.steps - WINDOW_STEPS + 8)))

    def _silent(self) -> Window:
        view = self._silence[int(self.rng.integers(len(self._silence)))]
        first = int(self.rng.integers(max(1, view.steps - WINDOW_STEPS)))
        shape = (len(LOOK_AHEADS_MS), WINDOW_STEPS)
        size = next(one.clip.expression.shape[1] for group in self._groups for one in group)
        nothing, all_of_it = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        rest = np.zeros((*shape, size), np.float32)
        return Window(*_cut(view, first), rest, all_of_it, nothing, nothing, None)


def _answer(clip: SpokenClip, view: View, heard_s: F64) -> tuple[F32, F32]:
    """A clip's expressions at times of a view, and where they are known."""
    times = view.media_s(heard_s)
    answer, known = at_times(clip, times)
    quiet = times < min(0.0, clip.time_s[0]) - ONSET_S
    answer[quiet], known[quiet] = 0, 1
    return answer, known


def at_times(clip: SpokenClip, times: F64) -> tuple[F32, F32]:
    """A clip's expressions float32 [T, E] at media times, and where they are known, float32 [T] 0 or 1."""
    after = np.clip(np.searchsorted(clip.time_s, times), 1, len(clip.time_s) - 1)
    before_s, after_s = clip.time_s[after - 1], clip.time_s[after]
    share = np.clip((times - before_s) / (after_s - before_s), 0, 1)[:, None].astype(np.float32)
    known = (times >= clip.time_s[0]) & (times <= clip.time_s[-1])
    return clip.expression[after - 1] * (1 - share) + clip.expression[after] * share, known.astype(np.float32)


def _cut(view: View, first: int) -> tuple[F32, F32, F32]:
    """A window's mels, fast and slow features, with what the step before it leaves; held beyond the ends."""
    return (
        _rows(view.mels, 4, first, HISTORY_MELS),
        _rows(view.fast, 2, first, 1),
        _rows(view.slow, 1, first, 0),
    )


def _rows(kept: Array, rate: int, first: int, before: int) -> F32:
    start, stop = first * rate - before, (first + WINDOW_STEPS) * rate
    inside = kept[max(0, start) : stop].astype(np.float32)
    left = max(0, -start)
    right = stop - start - left - len(inside)
    return np.pad(inside, ((left, right), (0, 0)), mode="edge")
