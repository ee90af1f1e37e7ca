"""What leaves when: frames as soon as they are ready or at their deadline, sound with its frame."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from engine.arrays import F32
from streaming.core.actions import LeaveSound, LeaveVideo
from streaming.core.clock import QUANTUM_NS, QUANTUM_SAMPLES, MediaClock
from streaming.core.convert import SILENCE
from streaming.core.fades import INTERRUPT_FADE_SAMPLES, ramp_down
from streaming.core.frames import Frame, FrameQueue, Stage
from streaming.core.intake import Quantum
from streaming.core.queued_sound import Span
from streaming.types import PCM

_FIRST_WORK_NS = 25_000_000
_HELD_NS = QUANTUM_NS
_LATE_SAMPLES = 2 * QUANTUM_SAMPLES
_PACE_GAIN = 0.05
_MOST_REMEMBERED = 32
_FADE = ramp_down(INTERRUPT_FADE_SAMPLES)


def _frozen(samples: PCM) -> PCM:
    samples.flags.writeable = False
    return samples


_SILENT_PCM = _frozen(np.zeros(QUANTUM_SAMPLES, np.int16))


@dataclass(frozen=True, slots=True)
class _Left:
    """Something that has left: where on the media axis, and how long after its time."""

    position: int
    delay_ns: int


class Gate:
    """Holds closed sound and orders what leaves.

    The usual way out is `pace_ns` after a media time: look-ahead, the intake's delay and what the worker
    usually needs. Frames of the source leave then, so that the picture does not jump in time when the dub
    comes or goes, and so does sound, unless a frame at or before it still waits: then it leaves with that, at
    most 20 ms later than usual. More would be jitter, which viewers answer with a longer delay of all sound;
    they show a frame that is later still with its sound all the same, by the timestamps.
    At media time plus budget everything leaves.

    Args:
        look_ahead_ns: sound beyond a frame's time that decides its mouth.
        budget_ns: how long after its media time anything leaves at the latest.
    """

    def __init__(self, frames: FrameQueue, look_ahead_ns: int, budget_ns: int) -> None:
        self._frames = frames
        self._look_ahead_ns, self._budget_ns = look_ahead_ns, budget_ns
        self._work_ns = float(_FIRST_WORK_NS)
        self._sounds: deque[Quantum] = deque()
        self._frames_left: deque[_Left] = deque(maxlen=_MOST_REMEMBERED)
        self._sounds_left: deque[_Left] = deque(maxlen=_MOST_REMEMBERED)
        self._clock = MediaClock(0)
        self._intake_delay_ns = 0
        self._next_position = self._fade_from = self._quiet_until = 0

    @property
    def waiting_quanta(self) -> int:
        """Quanta of sound that are closed and have not left."""
        return len(self._sounds)

    @property
    def pace_ns(self) -> int:
        """How long after its media time anything usually leaves."""
        usual_ns = self._look_ahead_ns + self._intake_delay_ns + int(self._work_ns)
        return min(usual_ns, self._budget_ns)

    @property
    def work_ns(self) -> int:
        """What the worker's answers usually take beyond the sound they wait for."""
        return int(self._work_ns)

    @property
    def next_utterance(self) -> int | None:
        """Of the first sound that is held."""
        spans = (span for quantum in self._sounds for span in quantum.spans)
        return next((span.utterance for span in spans if span.utterance is not None), None)

    def start(self, clock: MediaClock) -> None:
        """The session's zero is known."""
        self._clock = clock

    def push(self, quantum: Quantum, intake_delay_ns: int) -> None:
        """Take the next closed sound."""
        self._sounds.append(quantum)
        self._intake_delay_ns = intake_delay_ns

    def deadline_ns(self, position: int) -> int:
        """When what belongs to a media position leaves at the latest."""
        return self._clock.ns(position) + self._budget_ns

    def usual_ns(self, position: int) -> int:
        """When what belongs to a media position usually leaves."""
        return self._clock.ns(position) + self.pace_ns

    def is_hopeless(self, position: int, now_ns: int) -> bool:
        """Whether a frame that comes now is not worth dubbing: its sound has left, or its time is up."""
        missed_sound = position + _LATE_SAMPLES <= self._next_position
        return missed_sound or now_ns + self.work_ns > self.deadline_ns(position)

    def frame_due_ns(self, frame: Frame) -> int:
        """When the oldest frame leaves; 0: at once."""
        if frame.stage is Stage.READY:
            return 0
        if frame.stage is Stage.SOURCE:
            return self.usual_ns(frame.position)
        return self.deadline_ns(frame.position)

    def sound_due_ns(self) -> int | None:
        """When the next closed sound leaves, as things stand; None if none is closed."""
        if not self._sounds:
            return None
        position = self._sounds[0].position
        usual_ns = self.usual_ns(position)
        if not self._is_held(position):
            return usual_ns
        return min(usual_ns + _HELD_NS, self.deadline_ns(position))

    def leave_frame(self, frame: Frame, now_ns: int) -> LeaveVideo:
        """Send the oldest frame, which the caller has taken out of the queue."""
        delay_ns = now_ns - self._clock.ns(frame.position)
        self._frames_left.append(_Left(frame.position, delay_ns))
        work_ns = delay_ns - self._look_ahead_ns - self._intake_delay_ns
        if frame.stage is Stage.READY or work_ns > self._work_ns:
            self._work_ns += _PACE_GAIN * (min(max(0, work_ns), self._budget_ns) - self._work_ns)
        dubbed = frame.stage is Stage.READY and frame.shown != "source"
        skew_ms = self._skew_of_frame(frame.position, delay_ns)
        return LeaveVideo(
            frame.ref, frame.index, frame.position, dubbed, frame.shown, frame.given, frame.stamps, skew_ms
        )

    def leave_sound(self, now_ns: int) -> tuple[LeaveSound, tuple[Span, ...]]:
        """Send the next closed sound; and whose it is."""
        quantum = self._sounds.popleft()
        self._next_position = quantum.position + QUANTUM_SAMPLES
        delay_ns = now_ns - self._clock.ns(quantum.position)
        self._sounds_left.append(_Left(quantum.position, delay_ns))
        skew_ms = self._skew_of_sound(quantum.position, delay_ns)
        return LeaveSound(_pcm(self._quietened(quantum)), quantum.position, skew_ms), quantum.spans

    def silence(self) -> int:
        """Fade what is held out within 10 ms, from the next sample on; how many dub samples are dropped."""
        if not self._sounds:
            return 0
        self._fade_from = self._sounds[0].position
        self._quiet_until = self._sounds[-1].position + QUANTUM_SAMPLES
        dropped = sum(span.samples for quantum in self._sounds for span in quantum.spans)
        for i, quantum in enumerate(self._sounds):
            self._sounds[i] = Quantum(quantum.position, quantum.samples, quantum.heard, ())
        return dropped

    def _is_held(self, position: int) -> bool:
        """Whether a frame that begins with this sound still waits; of an older one the sound has left."""
        for frame in self._frames:
            if frame.position > position:
                return False
            if frame.position > position - QUANTUM_SAMPLES:
                return True
        return False

    def _quietened(self, quantum: Quantum) -> F32:
        if quantum.position >= self._quiet_until:
            return quantum.samples
        if quantum.position > self._fade_from:
            return SILENCE
        samples = quantum.samples * np.float32(0)
        samples[:INTERRUPT_FADE_SAMPLES] = quantum.samples[:INTERRUPT_FADE_SAMPLES] * _FADE
        return samples

    def _skew_of_frame(self, position: int, delay_ns: int) -> float | None:
        for sound in reversed(self._sounds_left):
            if sound.position <= position:
                within = position < sound.position + QUANTUM_SAMPLES
                return (delay_ns - sound.delay_ns) / 1e6 if within else None
        return None

    def _skew_of_sound(self, position: int, delay_ns: int) -> float | None:
        """Of the last frame that begins in it."""
        for frame in reversed(self._frames_left):
            if frame.position < position + QUANTUM_SAMPLES:
                return (frame.delay_ns - delay_ns) / 1e6 if frame.position >= position else None
        return None


def _pcm(samples: F32) -> PCM:
    if samples is SILENCE:
        return _SILENT_PCM
    scaled: F32 = np.rint(samples * np.float32(32_768))
    pcm: PCM = np.clip(scaled, -32_768, 32_767).astype(np.int16)
    return pcm
