"""What the core knows of the worker: what it has, what it may have next, and whether it lives."""

import math
from collections import deque
from collections.abc import Mapping

import numpy as np

from streaming.core.actions import Action, GiveFrame, GiveSound, Release
from streaming.core.clock import QUANTUM_SAMPLES
from streaming.core.frames import Frame, Stage
from streaming.core.intake import Quantum
from streaming.types import MEDIA_RATE_HZ

LEAD_SAMPLES = 4 * QUANTUM_SAMPLES  # a frame is given that long before its sound is complete, to be tracked
_STEP_SAMPLES = 2 * QUANTUM_SAMPLES  # the audio network's step of 40 ms; a frame waits for half of one
_WORKING_FRAMES = 2
_HISTORY_QUANTA = 50
_SLOW_NS = 250_000_000
_STALLED_NS = 1_000_000_000


class WorkerSide:
    """Frames and sound that go to the worker, and its answers.

    Args:
        look_ahead_samples: sound beyond a frame's time that its mouth needs.
        ready: whether the worker lives.
    """

    def __init__(self, look_ahead_samples: int, *, ready: bool) -> None:
        self._look_ahead = look_ahead_samples
        self._up = ready
        self._zero = 0  # media position of the first sample that this worker was given
        self._history: deque[Quantum] = deque(maxlen=_HISTORY_QUANTA)
        self._out: dict[int, Frame] = {}
        self._gone: set[int] = set()  # indices among them whose frame has left, or was given up
        self._answered_ns = 0
        self._told_stalled = False

    @property
    def up(self) -> bool:
        """Whether the worker lives."""
        return self._up

    @property
    def frames_out(self) -> int:
        """Frames it has not answered."""
        return len(self._out)

    def slow(self, now_ns: int) -> bool:
        """Whether it has had frames for 250 ms and did not answer any."""
        return bool(self._out) and now_ns - self._waiting_since_ns() > _SLOW_NS

    def stalls(self, now_ns: int) -> bool:
        """Whether it has just become a second since it should have answered; told once each time."""
        stalled = bool(self._out) and now_ns - self._waiting_since_ns() > _STALLED_NS
        news = stalled and not self._told_stalled
        self._told_stalled = stalled
        return news

    def can_dub(self, position: int) -> bool:
        """Whether a frame at a media position is for this worker."""
        return self._up and position >= self._zero

    def complete(self, frame: Frame, closed: int) -> bool:
        """Whether all the sound that the frame's mouth needs is closed."""
        return frame.position + self._look_ahead <= closed

    def hear(self, quantum: Quantum) -> list[Action]:
        """Closed sound."""
        self._history.append(quantum)
        return [GiveSound(quantum.heard, quantum.position)] if self._up else []

    def takes(self, frame: Frame, closed: int, interval_samples: int) -> bool:
        """Whether to give it a waiting frame now: its sound is about to be there, and it is not behind."""
        soon = frame.position + self._look_ahead - LEAD_SAMPLES <= closed
        early = math.ceil((LEAD_SAMPLES + _STEP_SAMPLES) // 2 / interval_samples)
        return soon and len(self._out) < _WORKING_FRAMES + early

    def give(self, frame: Frame, now_ns: int) -> GiveFrame:
        """Give it a frame."""
        frame.stage, frame.given, frame.given_ns = Stage.GIVEN, True, now_ns
        self._out[frame.index] = frame
        return GiveFrame(frame.index, frame.ref, (frame.position - self._zero) / MEDIA_RATE_HZ)

    def answer(self, now_ns: int, index: int, shown: str, stamps: Mapping[str, int]) -> list[Action]:
        """Its answer; one about a frame that it does not have, or that came after its death, is ignored."""
        frame = self._out.pop(index, None)
        if frame is None:
            return []
        self._answered_ns = now_ns
        if index in self._gone:
            self._gone.remove(index)
            return [Release(frame.ref)]
        frame.stage, frame.shown, frame.stamps = Stage.READY, shown, stamps
        return []

    def done_with(self, frame: Frame) -> list[Action]:
        """The core is done with a frame: release it, unless the worker still has it."""
        if frame.index not in self._out:
            return [Release(frame.ref)]
        self._gone.add(frame.index)
        return []

    def fail(self) -> list[Action]:
        """It is dead: what it had leaves as source."""
        actions: list[Action] = [Release(self._out[index].ref) for index in sorted(self._gone)]
        for frame in self._out.values():
            frame.stage = Stage.SOURCE
        self._out.clear()
        self._gone.clear()
        self._up = False
        return actions

    def recover(self) -> list[Action]:
        """A fresh one lives: it hears the latest second first, from a step of its network on."""
        self._up, self._told_stalled = True, False
        while self._history and self._history[0].position % _STEP_SAMPLES:
            self._history.popleft()
        if not self._history:
            return []
        self._zero = self._history[0].position
        return [GiveSound(np.concatenate([quantum.heard for quantum in self._history]), self._zero)]

    def _waiting_since_ns(self) -> int:
        return max(self._answered_ns, next(iter(self._out.values())).given_ns)
