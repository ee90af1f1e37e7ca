"""A live session in virtual time: a camera, a voice and a worker around the real core."""

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine.expression.audio import STEP_MS
from engine.expression.speech import EARLY_MS, HALF_MS, SNAP_MS
from streaming.core.actions import (
    Action,
    GiveFrame,
    GiveSound,
    LeaveSound,
    LeaveVideo,
    Release,
    SetRung,
    Tell,
)
from streaming.core.session_core import SessionCore
from streaming.types import PCM, AudioIn, Event, SessionOptions

MS = 1_000_000
SECOND = 1_000 * MS
START_NS = 1_000 * SECOND


def session_options(**changes: Any) -> SessionOptions:
    return SessionOptions(Path("toy.actor"), **changes)


def _usual_work_ns(_: int) -> int:
    return 15 * MS


def _usual_transit_ns(_: int) -> int:
    return 20 * MS


@dataclass(frozen=True)
class Left:
    """A frame that left, and when, relative to the start."""

    at_ns: int
    leave: LeaveVideo


@dataclass
class Worker:
    """One worker: it takes frames in order, and renders each when its sound is there.

    Attributes:
        render_ns: how long the n-th frame takes.
        wedged: it lives, and does not answer.
    """

    look_ahead_samples: int
    render_ns: Callable[[int], int]
    alive: bool = True
    wedged: bool = False
    heard_samples: int = 0
    zero: int | None = None
    free_ns: int = 0
    waiting: list[GiveFrame] = field(default_factory=list)
    count: int = 0

    def start(self) -> None:
        self.alive, self.heard_samples, self.zero = True, 0, None
        self.waiting.clear()

    def hear(self, sound: GiveSound) -> None:
        if self.zero is None:
            self.zero = sound.position
        assert sound.position == self.zero + 3 * self.heard_samples, "the worker's sound has a gap"
        self.heard_samples += sound.samples.size

    def next_done(self, now_ns: int) -> tuple[int, GiveFrame] | None:
        """When the next frame that can be rendered will be."""
        if not self.waiting or self.wedged:
            return None
        needed = round(self.waiting[0].time_s * 48_000) + self.look_ahead_samples
        if 3 * self.heard_samples < _heard_samples(needed, EARLY_MS if self.look_ahead_samples else 0):
            return None
        frame = self.waiting.pop(0)
        self.free_ns = max(now_ns, self.free_ns) + self.render_ns(self.count)
        self.count += 1
        return self.free_ns, frame


def _heard_samples(end: int, early_ms: float) -> int:
    """How much sound the engine must have heard for a mouth that needs it up to there, at 48 kHz."""
    steps, beyond_ms = divmod(end / 48, STEP_MS)
    halves = 0 if beyond_ms <= SNAP_MS else 1 if beyond_ms <= HALF_MS + early_ms else 2
    return 48 * (int(steps) * STEP_MS + halves * HALF_MS)


class Simulation:
    """Runs a core in virtual time and checks that what leaves follows the rules. Times are from the start.

    Args:
        keep_sound: keep the samples that left; else only their number.
    """

    def __init__(
        self,
        options: SessionOptions | None = None,
        *,
        render_ns: Callable[[int], int] = _usual_work_ns,
        keep_sound: bool = True,
        capacity: int = 64,
        worker_ready: bool = True,
    ) -> None:
        self.options = options or session_options()
        self.now_ns = START_NS
        self.core = SessionCore(self.options, START_NS, capacity=capacity, worker_ready=worker_ready)
        self.worker = Worker(self.options.look_ahead_ms * 48, render_ns, worker_ready)
        self.frames: list[Left] = []
        self.sounds: list[PCM] = []
        self.sound_left_ns: list[int] = []
        self.events: list[tuple[int, Event]] = []
        self.rungs: list[tuple[int, int]] = []
        self.refs: set[int] = set()
        self.most_refs = 0
        self.skews_ms: list[float] = []
        self._keep_sound = keep_sound
        self._position = 0
        self._calls: list[tuple[int, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._next_ref = 0

    @property
    def sound(self) -> PCM:
        """All that left, int16 [T]."""
        return np.concatenate([np.zeros(0, np.int16), *self.sounds])

    @property
    def time_ns(self) -> int:
        """Now, from the start."""
        return self.now_ns - START_NS

    def at(self, at_ns: int, call: Callable[[], object]) -> None:
        """Do something at a time."""
        heapq.heappush(self._calls, (START_NS + at_ns, next(self._order), call))

    def camera(
        self, captured_ns: Iterable[int], transit_ns: Callable[[int], int] = _usual_transit_ns
    ) -> None:
        """Frames captured at these times, the n-th coming so much later."""
        for n, at_ns in enumerate(captured_ns):
            self.at(at_ns + transit_ns(n), partial(self._film, START_NS + at_ns))

    def voice(
        self,
        pieces: Iterable[tuple[int, PCM]],
        rate_hz: int = 48_000,
        *,
        utterance: int | None = None,
        captured_ns: Callable[[int], int] | None = None,
    ) -> None:
        """Pieces of sound and when they come; and when the n-th was captured, if somebody knows."""
        for n, (at_ns, samples) in enumerate(pieces):
            captured = None if captured_ns is None else START_NS + captured_ns(n)
            self.at(at_ns, partial(self._speak, AudioIn(samples, rate_hz, captured), utterance))

    def run(self, until_ns: int) -> None:
        """Go on until a time."""
        end_ns = START_NS + until_ns
        core_ns = self.core.next_wake_ns()
        while True:
            wake_ns = core_ns
            if self._calls:
                wake_ns = min(wake_ns, self._calls[0][0])
            if wake_ns > end_ns:
                break
            self.now_ns = max(wake_ns, self.now_ns)
            while self._calls and self._calls[0][0] <= self.now_ns:
                heapq.heappop(self._calls)[2]()
            for action in self.core.tick(self.now_ns):
                self._act(action)
            core_ns = self.core.next_wake_ns()
            assert core_ns > self.now_ns, "it would never sleep"
            self._let_work()
        self.now_ns = end_ns

    def kill_worker(self) -> None:
        self.worker.alive = False
        self.core.failed(self.now_ns)

    def start_worker(self) -> None:
        self.worker.start()
        self.core.recovered(self.now_ns)

    def told(self, kind: str) -> list[tuple[int, dict[str, object]]]:
        """Events of a kind and when they were told."""
        return [(at_ns, dict(event.data)) for at_ns, event in self.events if event.kind == kind]

    def latencies_ms(self) -> list[float]:
        """How long after their capture frames left, original delay excluded."""
        zero_ns = START_NS if self._zero_ns is None else self._zero_ns
        return [(left.at_ns + START_NS - zero_ns) / MS - left.leave.position / 48 for left in self.frames]

    _zero_ns: int | None = None

    def _film(self, captured_ns: int) -> None:
        ref, self._next_ref = self._next_ref, self._next_ref + 1
        self.refs.add(ref)
        self.most_refs = max(self.most_refs, len(self.refs))
        if self._zero_ns is None:
            self._zero_ns = captured_ns
        self.core.video(self.now_ns, captured_ns, ref)

    def _speak(self, piece: AudioIn, utterance: int | None) -> None:
        self.core.dub(self.now_ns, piece, utterance)

    def _let_work(self) -> None:
        while self.worker.alive and (done := self.worker.next_done(self.now_ns)) is not None:
            at_ns, frame = done
            self.at(at_ns - START_NS, partial(self._answer, frame))

    def _answer(self, frame: GiveFrame) -> None:
        if self.worker.alive:
            self.core.dubbed(self.now_ns, frame.index, "dubbed", {"dubbed": self.now_ns})

    def _act(self, action: Action) -> None:
        match action:
            case GiveFrame():
                assert self.worker.alive
                assert action.time_s >= 0
                self.worker.waiting.append(action)
            case GiveSound():
                assert self.worker.alive
                self.worker.hear(action)
            case LeaveVideo():
                assert action.ref in self.refs, "a frame left after it was released"
                assert not self.frames or action.position > self.frames[-1].leave.position
                self.frames.append(Left(self.time_ns, action))
                self._note_skew(action.skew_ms)
            case LeaveSound():
                self._take_sound(action)
            case Release():
                self.refs.remove(action.ref)
            case Tell():
                self.events.append((self.time_ns, action.event))
            case SetRung():
                self.rungs.append((self.time_ns, int(action.rung)))

    def _take_sound(self, leave: LeaveSound) -> None:
        assert leave.position == self._position, "sound that leaves has a gap"
        assert leave.samples.shape == (960,)
        assert leave.samples.dtype == np.int16
        self._position += 960
        self._note_skew(leave.skew_ms)
        if self._keep_sound:
            self.sounds.append(leave.samples)
            self.sound_left_ns.append(self.time_ns)

    def _note_skew(self, skew_ms: float | None) -> None:
        if skew_ms is not None:
            self.skews_ms.append(skew_ms)


def tone(samples: int, rate_hz: int = 48_000, hz: float = 440.0, level: int = 8000) -> PCM:
    """A sine, int16 [samples]."""
    wave: PCM = np.rint(level * np.sin(2 * np.pi * hz * np.arange(samples) / rate_hz)).astype(np.int16)
    return wave


def regular(rate_hz: float, until_ns: int, start_ns: int = 0) -> list[int]:
    """Times of a regular stream."""
    count = int((until_ns - start_ns) * rate_hz / SECOND)
    return [start_ns + round(n * SECOND / rate_hz) for n in range(count)]


def cut(samples: PCM, piece_samples: int) -> list[PCM]:
    """Pieces of a length, the last maybe shorter."""
    return [samples[start : start + piece_samples] for start in range(0, len(samples), piece_samples)]
