"""From the dub's samples to expressions: reblocking, log-mel, network, and rest in silence.

The network answers every 40 ms. A moment in the first half of a step does not wait for the second: from
20 ms of the step's sound the network says, in a run of its own that leaves no trace, what its answer will be.
Whether a moment is answered so is decided by its time, never by what has come when it is asked for: a live
stream and a recording get the same.
"""

from dataclasses import dataclass

import numpy as np

from engine.arrays import F32
from engine.audio.blocks import Reblocker
from engine.audio.logmel import LogMel
from engine.audio.vad import SpeechGate
from engine.expression.audio import STEP_MS, AudioToExpression
from engine.steppable import State
from engine.timing import AUDIO_RATE_HZ

STEP_SAMPLES = AUDIO_RATE_HZ * STEP_MS // 1000
RAMP_STEPS = 4  # how long the lips take to rest, or, with sound known ahead, to leave rest
QUICK_RAMP_STEPS = 2  # to leave rest where the sound is there already
MS_PER_RAMP_STEP = 60  # of look-ahead, for one step more
RELEASE_MS = 320
SNAP_MS = 8.0
HALF_MS = STEP_MS // 2
HALF_SAMPLES = STEP_SAMPLES // 2
EARLY_MS = 8.0  # a moment may lie so far beyond half of a step's sound, where there is a look-ahead
GOES_ON = np.array([0.25, 0.375], np.float32)[:, None]  # how log-mels not heard yet follow their last change


@dataclass(frozen=True, slots=True)
class SpokenExpression:
    """An expression at a media time.

    Attributes:
        expression: float32 [E].
        speaking: 0..1, how surely somebody speaks; the expression is already scaled by it.
    """

    expression: F32
    speaking: float


@dataclass(slots=True)
class _Half:
    """A step when half of its sound is there.

    Attributes:
        mels: float32 [1, 2, 80], what was heard of it.
        state: of the network before it.
        spoken: whether somebody speaks in that half.
        level: 0..1, how surely, if the second half is like the first.
        expression: float32 [E], what the step will say, once that was asked for.
    """

    mels: F32
    state: State
    spoken: bool
    level: float
    expression: F32 | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a media time lies between steps.

    Attributes:
        step: the step before it, 0 = the oldest kept.
        share: 0..1, how far it is from there to the next one.
        half: whether half of the next one's sound is enough.
    """

    step: int
    share: float
    half: bool


class SpeechToExpression:
    """One dub track, pushed in any pieces, as expressions over media time.

    Expressions before `forget_before` are dropped, so a session of any length needs the same memory.

    Args:
        network: the audio-to-expression model with its look-ahead.
        rests: whether silence brings the lips to rest (else the network's own answer to silence stays).
    """

    def __init__(self, network: AudioToExpression, *, rests: bool = True) -> None:
        self._network, self._rests = network, rests
        self._mel, self._gate = LogMel(), SpeechGate(release_ms=RELEASE_MS + network.look_ahead_ms)
        self._rise_steps = min(RAMP_STEPS, QUICK_RAMP_STEPS + network.look_ahead_ms // MS_PER_RAMP_STEP)
        self._early_ms = EARLY_MS if network.look_ahead_ms else 0.0
        self._reblocker = Reblocker(HALF_SAMPLES)
        self._pending = self._reblocker.initial_state()
        self._mel_state, self._state = self._mel.initial_state(1), network.initial_state(1)
        self._expressions: list[F32] = []
        self._levels: list[float] = []
        self._halves: list[_Half] = []  # of the same steps, and of one more while half of its sound is there
        self._first = 0  # step index of the oldest expression kept

    @property
    def held(self) -> int:
        """How many expressions are kept."""
        return len(self._expressions)

    def push(self, samples: F32) -> None:
        """Take the next samples, float32 [T] at 16 kHz."""
        blocks, self._pending = self._reblocker.push(samples, self._pending)
        for start in range(0, len(blocks.samples), HALF_SAMPLES):
            self._hear(blocks.samples[start : start + HALF_SAMPLES])

    def knows(self, time_s: float) -> bool:
        """Whether the sound has come that the expression at a media time needs: up to it plus the look-ahead.

        Sound counts in pieces of 20 ms. A time up to 8 ms beyond one does not wait for the next; beyond half
        a step without a look-ahead it does, for there those milliseconds are worth most.
        """
        if not self._expressions:
            return False
        place = self._place(time_s)
        if place.share == 0:
            return place.step < len(self._expressions)
        return place.step + 1 < len(self._halves if place.half else self._expressions)

    def at(self, time_s: float) -> SpokenExpression:
        """The expression at a media time, between the steps around it; held beyond the ends.

        A time up to 8 ms after a step is taken as the step's: a camera's jitter must not make the network run
        between its steps.

        Raises:
            ValueError: nothing was pushed yet.
        """
        if not self._expressions:
            raise ValueError("no sound was pushed yet: an expression needs at least 40 ms of it")
        place = self._place(time_s)
        low = min(max(place.step, 0), len(self._expressions) - 1)
        before, level = self._expressions[low], self._levels[low]
        if place.step < 0 or place.share == 0 or not self.knows(time_s):
            return SpokenExpression(before.copy(), level)
        if place.half:
            after, level_after = self._half(low + 1)
        else:
            after, level_after = self._expressions[low + 1], self._levels[low + 1]
        expression = np.float32(1 - place.share) * before + np.float32(place.share) * after
        return SpokenExpression(expression, (1 - place.share) * level + place.share * level_after)

    def forget_before(self, time_s: float) -> None:
        """Drop expressions that no frame from `time_s` on can need."""
        position = int(np.floor((time_s * 1000 + self._network.look_ahead_ms) / STEP_MS)) - 2 - self._first
        count = min(max(0, position), max(0, len(self._expressions) - 2))
        del self._expressions[:count], self._levels[:count], self._halves[:count]
        self._first += count

    def _place(self, time_s: float) -> _Place:
        steps, beyond_ms = divmod(round(time_s * 1000 + self._network.look_ahead_ms, 3), STEP_MS)
        share = 0.0 if beyond_ms <= SNAP_MS else beyond_ms / STEP_MS
        return _Place(int(steps) - 1 - self._first, share, beyond_ms <= HALF_MS + self._early_ms)

    def _hear(self, samples: F32) -> None:
        mels, self._mel_state = self._mel.step(samples[None], self._mel_state)
        spoken = bool(self._gate.push(samples).any()) or not self._rests
        if len(self._halves) == len(self._expressions):
            self._halves.append(_Half(mels, self._state, spoken, self._next_level(spoken)))
            return
        half = self._halves[-1]
        expression, self._state = self._network.step(np.concatenate([half.mels, mels], 1), self._state)
        level = self._next_level(spoken or half.spoken)
        self._levels.append(level)
        self._expressions.append(np.float32(level) * expression[0, 0])

    def _half(self, index: int) -> tuple[F32, float]:
        """The expression that a step will have, and its level, by the first half of its sound."""
        half = self._halves[index]
        if half.expression is None:
            last = half.mels[:, -1:]
            mels = np.concatenate([half.mels, last + GOES_ON * (last - half.mels[:, :1])], 1)
            expression, _ = self._network.step(mels, half.state)
            half.expression = np.float32(half.level) * expression[0, 0]
        return half.expression, half.level

    def _next_level(self, spoken: bool) -> float:
        before = self._levels[-1] if self._levels else float(not self._rests)
        change = 1 / self._rise_steps if spoken else -1 / RAMP_STEPS
        return min(1.0, max(0.0, before + change))
