"""From the dub's samples to expressions: reblocking, log-mel, network, and rest in silence."""

from dataclasses import dataclass

import numpy as np

from engine.arrays import F32
from engine.audio.blocks import Reblocker
from engine.audio.logmel import LogMel
from engine.audio.vad import SpeechGate
from engine.expression.audio import STEP_MS, AudioToExpression
from engine.timing import AUDIO_RATE_HZ

STEP_SAMPLES = AUDIO_RATE_HZ * STEP_MS // 1000
RAMP_STEPS = 4  # how long the lips take to rest, or, with sound known ahead, to leave rest
QUICK_RAMP_STEPS = 2  # to leave rest where the sound is there already
MS_PER_RAMP_STEP = 60  # of look-ahead, for one step more
RELEASE_MS = 320
SNAP_MS = 8.0


@dataclass(frozen=True, slots=True)
class SpokenExpression:
    """An expression at a media time.

    Attributes:
        expression: float32 [E].
        speaking: 0..1, how surely somebody speaks; the expression is already scaled by it.
    """

    expression: F32
    speaking: float


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
        self._reblocker = Reblocker(STEP_SAMPLES)
        self._pending = self._reblocker.initial_state()
        self._mel_state, self._state = self._mel.initial_state(1), network.initial_state(1)
        self._expressions: list[F32] = []
        self._levels: list[float] = []
        self._first = 0  # step index of the oldest expression kept

    @property
    def held(self) -> int:
        """How many expressions are kept."""
        return len(self._expressions)

    def push(self, samples: F32) -> None:
        """Take the next samples, float32 [T] at 16 kHz."""
        blocks, self._pending = self._reblocker.push(samples, self._pending)
        for start in range(0, len(blocks.samples), STEP_SAMPLES):
            self._step(blocks.samples[start : start + STEP_SAMPLES])

    def knows(self, time_s: float) -> bool:
        """Whether the sound has come that the expression at a media time needs."""
        return bool(self._expressions) and self._position(time_s) <= len(self._expressions) - 1

    def at(self, time_s: float) -> SpokenExpression:
        """The expression at a media time, between the steps around it; held beyond the ends.

        A time within 8 ms of a step is taken as the step's: a camera's jitter must not make a live frame wait
        for the next one.

        Raises:
            ValueError: nothing was pushed yet.
        """
        if not self._expressions:
            raise ValueError("no sound was pushed yet: an expression needs at least 40 ms of it")
        position = self._position(time_s)
        low = int(np.clip(np.floor(position), 0, len(self._expressions) - 1))
        high, share = min(low + 1, len(self._expressions) - 1), float(np.clip(position - low, 0, 1))
        before, after = self._expressions[low], self._expressions[high]
        expression = np.float32(1 - share) * before + np.float32(share) * after
        return SpokenExpression(expression, (1 - share) * self._levels[low] + share * self._levels[high])

    def forget_before(self, time_s: float) -> None:
        """Drop expressions that no frame from `time_s` on can need."""
        position = int(np.floor((time_s * 1000 + self._network.look_ahead_ms) / STEP_MS)) - 2 - self._first
        count = min(max(0, position), max(0, len(self._expressions) - 2))
        del self._expressions[:count], self._levels[:count]
        self._first += count

    def _position(self, time_s: float) -> float:
        """A media time in steps, 0 = the oldest kept."""
        position = (time_s * 1000 + self._network.look_ahead_ms) / STEP_MS - 1 - self._first
        nearest = round(position)
        return float(nearest) if abs(position - nearest) * STEP_MS <= SNAP_MS else position

    def _step(self, samples: F32) -> None:
        mels, self._mel_state = self._mel.step(samples[None], self._mel_state)
        expression, self._state = self._network.step(mels, self._state)
        spoken = bool(self._gate.push(samples).any()) or not self._rests
        before = self._levels[-1] if self._levels else float(not self._rests)
        change = 1 / self._rise_steps if spoken else -1 / RAMP_STEPS
        level = min(1.0, max(0.0, before + change))
        self._levels.append(level)
        self._expressions.append(np.float32(level) * expression[0, 0])
