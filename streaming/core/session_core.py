"""A live session as one state machine: what comes in, and what is to be done when.

Time is an argument. The shell calls `video`, `dub`, `dubbed`, ... as things happen, `tick` after each of them
and at `next_wake_ns`, and does what the actions say, in order. Rules that hold for any order of calls:

* Sound leaves in quanta of 960 samples without a gap, from position 0 on, for ever.
* Frames leave in order of strictly increasing positions. Every frame is released exactly once: after it has
  left, or instead.
* Nothing leaves later than its media time plus the budget, if only `tick` is called in time.
"""

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from streaming.core.actions import Action, Release, SetRung, Tell
from streaming.core.clock import MediaClock, samples_of
from streaming.core.frames import Frame, FrameQueue, Stage
from streaming.core.gate import Gate
from streaming.core.intake import SoundIntake
from streaming.core.ladder import Ladder, Rung
from streaming.core.own_sound import OwnSound
from streaming.core.playback import PlaybackLog
from streaming.core.queued_sound import CAPACITY_SAMPLES
from streaming.core.worker_side import WorkerSide
from streaming.types import MEDIA_RATE_HZ, NS_PER_S, AudioIn, Event, Playback, SessionOptions

_NS_PER_MS = 1_000_000
_WORK_RESERVE_NS = 80 * _NS_PER_MS  # of the budget, kept from a microphone's jitter for the worker
_NO_VIDEO_NS = NS_PER_S // 2
_REPORT_NS = NS_PER_S
_READY_FRAMES = 2  # with all their sound closed that may wait for the worker
_BURST_FRAMES = 2  # late frames of the source that may leave at once
_SKEWS = 25  # of the latest frames and sounds, whose mean is told
DEFAULT_CAPACITY = 64


@dataclass(frozen=True, slots=True)
class CoreStats:
    """Numbers of a session, for its metrics; counters run from its start.

    Attributes:
        frames: by result: what the worker showed, "dubbed", "fading", "no face", "covered", "other person" or
            "silence"; "source" (nobody was to dub it), "missed" (left as source at its deadline), "late"
            (came, or was ready, too late to be shown), "dropped" (for a worker or shell that was behind).
        misses: missed deadlines by stage: "worker", and what the shell reports.
        waiting_frames, frames_out: in the core; of them, with the worker.
        waiting_quanta, queued_ms: closed sound in the gate; sound that waits to be closed.
        late_ms, stalls: microphone sound that came too late; stops of sound without an end.
        moved_ms: by how much a microphone's sound, and its lips, are placed later than it was captured.
        intake_delay_ms, work_ms: what a microphone's jitter costs, and what the worker needs.
        pace_ms: how long after its media time anything usually leaves.
        rung: of the ladder.
        worker_up: whether a worker lives.
    """

    frames: Mapping[str, int]
    misses: Mapping[str, int]
    waiting_frames: int
    frames_out: int
    waiting_quanta: int
    queued_ms: int
    late_ms: int
    stalls: int
    moved_ms: float
    intake_delay_ms: float
    work_ms: float
    pace_ms: float
    rung: Rung
    worker_up: bool


class SessionCore:
    """See the module.

    Args:
        options: what was asked for.
        now_ns: the time.
        capacity: frames the core may hold; see `frames_held`.
        worker_ready: whether a worker lives already; else `recovered` tells.
    """

    def __init__(
        self,
        options: SessionOptions,
        now_ns: int,
        *,
        capacity: int = DEFAULT_CAPACITY,
        worker_ready: bool = True,
    ) -> None:
        look_ahead_ns = options.look_ahead_ms * _NS_PER_MS
        budget_ns = options.latency_budget_ms * _NS_PER_MS
        self._frames = FrameQueue(capacity, options.original_delay_ms * _NS_PER_MS)
        self._intake = SoundIntake(budget_ns - look_ahead_ns - _WORK_RESERVE_NS)
        self._gate = Gate(self._frames, look_ahead_ns, budget_ns)
        self._worker = WorkerSide(samples_of(look_ahead_ns), ready=worker_ready)
        heard = options.idle == "source" and options.voice == "socket"
        self._own = OwnSound(options.original_delay_ms * _NS_PER_MS) if heard else None
        self._ladder = Ladder(now_ns)
        self._playback = PlaybackLog()
        self._clock: MediaClock | None = None
        self._first_dub_ns: int | None = None
        self._actions: list[Action] = []
        self._results: Counter[str] = Counter()
        self._misses: Counter[str] = Counter()
        self._skews: deque[float] = deque(maxlen=_SKEWS)
        self._told_credit = CAPACITY_SAMPLES
        self._news = False  # whether a frame could be given that could not be before
        self._report_ns = now_ns + _REPORT_NS

    @property
    def credit(self) -> int:
        """How many samples of dub sound, at 48 kHz, there is room for."""
        return self._intake.credit

    def heard_ns(self, position: int) -> int:
        """When sound of a media position comes in, if it comes live; 0 before the clock runs."""
        return self._clock.ns(position) - self._intake.moved_ns if self._clock else 0

    # what comes in

    def video(self, now_ns: int, captured_ns: int, ref: int) -> int | None:
        """A frame of the source; its number, or None if it is not wanted: a `Release` follows then.

        Args:
            now_ns: the time.
            captured_ns: when it was taken.
            ref: the shell's handle of the picture.
        """
        captured_ns = self._frames.captured(now_ns, captured_ns)
        clock = self._clock or self._start(MediaClock(captured_ns))
        dubbable = self._worker.up and self._ladder.rung < Rung.PASSTHROUGH
        stage = Stage.WAITING if dubbable else Stage.SOURCE
        frame, given_up = self._frames.add(clock, captured_ns, ref, stage)
        for surplus in given_up:
            self._give_up(surplus, "dropped")
        if frame is None:
            self._results["late"] += 1
            self._actions.append(Release(ref))
            return None
        if self._gate.is_hopeless(frame.position, now_ns):
            frame.stage = Stage.SOURCE
        self._news = True
        return frame.index

    def dub(self, now_ns: int, piece: AudioIn, utterance: int | None = None) -> int:
        """A piece of dub sound; the credit left, samples at 48 kHz.

        Raises:
            ProtocolError: see `SoundIntake.push`; nothing of the piece was taken.
        """
        if self._first_dub_ns is None:
            self._first_dub_ns = now_ns
        self._told_credit = self._intake.push(now_ns, piece, utterance)
        return self._told_credit

    def own(self, now_ns: int, piece: AudioIn) -> None:
        """A piece of the picture's own sound, heard while no dub speaks, if the idle policy is "source".

        Raises:
            ProtocolError: a rate outside 8 to 48 kHz.
        """
        if self._own is not None and self._clock is not None:
            self._own.push(self._clock, now_ns, piece)

    def end_utterance(self, now_ns: int, utterance: int | None = None) -> None:
        """No more comes of an utterance: what is queued of it plays out."""
        del now_ns
        self._intake.end(utterance)

    def dubbed(self, now_ns: int, index: int, shown: str, stamps: Mapping[str, int] | None = None) -> None:
        """The worker's answer: it is done with a frame.

        Args:
            now_ns: the time.
            index: the frame's number.
            shown: what the picture shows, as in `CoreStats.frames`; "source" if untouched.
            stamps: when it passed the worker's stages.
        """
        self._actions += self._worker.answer(now_ns, index, shown, stamps or {})
        self._news = True

    def failed(self, now_ns: int) -> None:
        """The worker is dead: from now on frames leave as source; those it had, too."""
        del now_ns
        if not self._worker.up:
            return
        self._actions += self._worker.fail()
        for frame in self._frames:
            if frame.stage is Stage.WAITING:
                frame.stage = Stage.SOURCE
        self._tell("state", worker="down")

    def recovered(self, now_ns: int) -> None:
        """A fresh worker lives; it hears the latest second of sound, then frames."""
        del now_ns
        if self._worker.up:
            return
        self._actions += self._worker.recover()
        self._tell("state", worker="up")

    def missed(self, now_ns: int, stage: str) -> None:
        """A stage of the shell, such as "encode", is behind: it counts like a missed deadline."""
        self._misses[stage] += 1
        self._ladder.miss(now_ns)

    def interrupt(self, now_ns: int) -> Playback:
        """Drop the dub that has not left: the next 10 ms die away, then it is silent.

        More pieces of the utterance that came last are ignored; new utterances play.
        """
        del now_ns
        waiting = self._gate.waiting_quanta > 0
        utterance = self._playback.utterance if self._playback.playing else self._next_utterance()
        played_ms = self._playback.played_ms
        dropped = self._gate.silence() + self._intake.clear(fade=not waiting)
        self._playback.interrupt()
        playback = Playback(utterance, played_ms, dropped * 1000 // MEDIA_RATE_HZ)
        self._tell(
            "playback",
            state="interrupted",
            utterance=playback.utterance,
            played_ms=playback.played_ms,
            dropped_ms=playback.dropped_ms,
        )
        return playback

    # what is to be done

    def tick(self, now_ns: int) -> list[Action]:
        """What is to be done now, in this order."""
        dub_ns = self._first_dub_ns
        if self._clock is None and dub_ns is not None and now_ns - dub_ns >= _NO_VIDEO_NS:
            self._start(MediaClock(now_ns))
        self._close_sound(now_ns)
        self._give_frames(now_ns)
        self._leave_frames(now_ns)
        self._leave_sound(now_ns)
        self._step_ladder(now_ns)
        self._report(now_ns)
        actions, self._actions = self._actions, []
        return actions

    def next_wake_ns(self) -> int:
        """When to call `tick` again if nothing happens before; a time that is past: at once."""
        if self._actions:
            return 0
        dues = [self._report_ns]
        if (closes_ns := self._intake.next_close_ns) is not None:
            dues.append(closes_ns)
        elif self._first_dub_ns is not None:
            dues.append(self._first_dub_ns + _NO_VIDEO_NS)
        if (sound_ns := self._gate.sound_due_ns()) is not None:
            dues.append(sound_ns)
        if (head := self._frames.head) is not None:
            dues.append(self._gate.frame_due_ns(head))
        return min(dues)

    def stats(self) -> CoreStats:
        """Numbers so far."""
        return CoreStats(
            frames=dict(self._results),
            misses=dict(self._misses),
            waiting_frames=len(self._frames),
            frames_out=self._worker.frames_out,
            waiting_quanta=self._gate.waiting_quanta,
            queued_ms=self._intake.queued_samples * 1000 // MEDIA_RATE_HZ,
            late_ms=self._intake.late_samples * 1000 // MEDIA_RATE_HZ,
            stalls=self._intake.stalls,
            moved_ms=self._intake.moved_ns / _NS_PER_MS,
            intake_delay_ms=self._intake.delay_ns / _NS_PER_MS,
            work_ms=self._gate.work_ns / _NS_PER_MS,
            pace_ms=self._gate.pace_ns / _NS_PER_MS,
            rung=self._ladder.rung,
            worker_up=self._worker.up,
        )

    def _start(self, clock: MediaClock) -> MediaClock:
        self._clock = clock
        self._intake.start(clock)
        self._gate.start(clock)
        self._tell("state", session="live")
        return clock

    def _close_sound(self, now_ns: int) -> None:
        closes_ns = self._intake.next_close_ns
        while closes_ns is not None and closes_ns <= now_ns:
            quantum = self._intake.close(now_ns)
            self._gate.push(quantum, self._intake.delay_ns)
            self._actions += self._worker.hear(quantum)
            self._news = True
            closes_ns = self._intake.next_close_ns

    def _give_frames(self, now_ns: int) -> None:
        if not self._news:
            return
        self._news = False
        waiting = [frame for frame in self._frames if frame.stage is Stage.WAITING]
        closed = self._intake.position
        ready = sum(self._worker.complete(frame, closed) for frame in waiting)
        for frame in waiting:
            behind = ready > _READY_FRAMES
            if not self._worker.can_dub(frame.position) or (behind and self._worker.slow(now_ns)):
                frame.stage = Stage.SOURCE
            elif self._worker.takes(frame, closed, self._frames.interval_samples):
                self._actions.append(self._worker.give(frame, now_ns))
            elif behind:
                self._frames.remove(frame)
                self._give_up(frame, "dropped")
                self.missed(now_ns, "worker")
            else:
                return
            ready -= 1

    def _leave_frames(self, now_ns: int) -> None:
        self._skip_late(now_ns)
        while (frame := self._frames.head) is not None and self._gate.frame_due_ns(frame) <= now_ns:
            self._frames.pop()
            leave = self._gate.leave_frame(frame, now_ns)
            self._actions.append(leave)
            self._actions += self._worker.done_with(frame)
            self._note_skew(leave.skew_ms)
            missed = frame.stage in {Stage.WAITING, Stage.GIVEN}
            self._results["missed" if missed else frame.shown] += 1
            if missed:
                self.missed(now_ns, "worker")

    def _skip_late(self, now_ns: int) -> None:
        """Of frames that come in a burst after their time, only the last ones leave."""
        overdue = 0
        for frame in self._frames:
            if frame.stage is Stage.READY or self._gate.frame_due_ns(frame) > now_ns:
                break
            overdue += 1
        for _ in range(overdue - _BURST_FRAMES):
            frame = self._frames.pop()
            self._give_up(frame, "late")
            if frame.stage is not Stage.SOURCE:
                self.missed(now_ns, "worker")

    def _leave_sound(self, now_ns: int) -> None:
        due_ns = self._gate.sound_due_ns()
        while due_ns is not None and due_ns <= now_ns:
            leave, spans = self._gate.leave_sound(now_ns)
            if self._own is not None:
                mixed = self._own.under(leave.samples, leave.position, speaking=bool(spans))
                leave = replace(leave, samples=mixed)
            self._actions.append(leave)
            self._note_skew(leave.skew_ms)
            for span in spans:
                self._actions += [Tell(event) for event in self._playback.leave(span)]
            due_ns = self._gate.sound_due_ns()

    def _give_up(self, frame: Frame, result: str) -> None:
        self._results[result] += 1
        self._actions += self._worker.done_with(frame)

    def _next_utterance(self) -> int | None:
        held = self._gate.next_utterance
        return self._intake.playing if held is None else held

    def _note_skew(self, skew_ms: float | None) -> None:
        if skew_ms is not None:
            self._skews.append(skew_ms)

    def _step_ladder(self, now_ns: int) -> None:
        before = self._ladder.rung
        rung = self._ladder.step(now_ns)
        if rung is None:
            return
        self._actions.append(SetRung(rung))
        self._tell("ladder", level=int(rung), name=rung.name.lower(), was=int(before))

    def _report(self, now_ns: int) -> None:
        credit = self._intake.credit
        if credit - self._told_credit >= MEDIA_RATE_HZ:
            self._told_credit = credit
            self._tell("credit", samples=credit)
        if self._worker.stalls(now_ns):
            self._tell("state", worker="stalled")
        if now_ns >= self._report_ns:
            self._report_ns = now_ns + _REPORT_NS
            skew = {"skew_ms": sum(self._skews) / len(self._skews)} if self._skews else {}
            self._tell(
                "latency",
                pace_ms=self._gate.pace_ns / _NS_PER_MS,
                intake_ms=self._intake.delay_ns / _NS_PER_MS,
                work_ms=self._gate.work_ns / _NS_PER_MS,
                **skew,
            )

    def _tell(self, kind: str, **data: object) -> None:
        self._actions.append(Tell(Event(kind, data)))


def frames_held(options: SessionOptions, frame_rate_hz: float) -> int:
    """How many pictures a session keeps at once, at most, if it is to lose none."""
    held_s = (options.original_delay_ms + options.latency_budget_ms) / 1000
    return math.ceil(held_s * frame_rate_hz) + _READY_FRAMES
