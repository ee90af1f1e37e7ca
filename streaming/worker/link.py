"""The edge's end of one session's worker."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar, assert_never

import numpy as np

from engine import errors
from engine.arrays import F32
from engine.errors import LivedubError, WorkerError
from engine.image.yuv import Colour
from streaming.types import SessionOptions
from streaming.worker import wire
from streaming.worker.process import WorkerProcess
from streaming.worker.slots import SlotRing
from streaming.worker.wire import Rung

OPEN_TIMEOUT_S = 60.0  # loading included
PING_S = 0.25
HANG_S = 1.0
PIECE_SAMPLES = 16_000  # of sound in one message

A = TypeVar("A", bound=wire.Message)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameDone:
    """A worker's answer for one frame.

    Attributes:
        index: the frame's, as it was given.
        slot: where its pictures are: `slots.dubbed(slot)` from now on, `slots.view(slot)` as before.
        shown: "dubbed", "fading", "silence", "no face", "covered", "other person"; "passed" at rung "pass";
            "skipped" if the edge wants it no longer: it gave the slot back, or called `skip` or `forget`.
        level: 0..1, how much of the drawn mouth shows; 0: the dubbed picture is the source.
        confidence: 0..1 of the tracked face, 0 without one.
        cut: the frame is the first one after a programme cut.
        stages_ns: monotonic times: "taken", "tracked", "queued" (its sound is there), "dubbed"; of a frame
            that was left out, those that it reached.
    """

    index: int
    slot: int
    shown: str
    level: float
    confidence: float
    cut: bool
    stages_ns: Mapping[str, int]


class WorkerLink:
    """One open worker; made by `start`. Belongs to the event loop that made it.

    Attributes:
        slots: the present pictures; they outlive the worker, and `close` leaves them alone.
        name: backend and precision of the renderer.
    """

    def __init__(
        self,
        process: WorkerProcess,
        slots: SlotRing,
        name: str,
        hang_s: float,
        on_done: Callable[[FrameDone], None],
        on_death: Callable[[WorkerError], None],
    ) -> None:
        self.slots, self.name, self._hang_s = slots, name, hang_s
        self._process, self._on_done, self._on_death = process, on_done, on_death
        self._waiting: dict[int, int] = {}  # index by slot
        self._exchanges = 0  # that were not answered
        self._loop = asyncio.get_running_loop()
        self._ping: int | None = None
        self._pings, self._heard_s = 0, self._loop.time()
        self._timer = self._loop.call_later(PING_S, self._watch)
        slots.on_abandoned = self.skip
        process.on_end = self._ended
        process.on_message = self._take

    @classmethod
    async def start(
        cls,
        options: SessionOptions,
        slots: SlotRing,
        *,
        on_done: Callable[[FrameDone], None],
        on_death: Callable[[WorkerError], None],
        process: WorkerProcess | None = None,
        hang_s: float = HANG_S,
    ) -> "WorkerLink":
        """Open an actor in a worker; answers when that has drawn its first picture.

        Args:
            options: of the session that it is for.
            slots: the session's pictures, which an earlier worker may have used.
            on_done: called for every frame that was given, in order but for skipped ones.
            on_death: called once, when the worker died or hung; not after `close`. All slots are the edge's
                again by then, and the frames that wait will not be answered.
            process: that has no order yet; by default a new one.
            hang_s: a worker that gives no sign of life for so long while frames wait is killed.

        Raises:
            InputError: the actor cannot be used: damaged, or without a consent that holds.
            WorkerError: the worker did not get ready, or another error of its own kind if it said which.
        """
        process = process or await WorkerProcess.spawn()
        try:
            ready = await ask(process, _order(options, slots), wire.Ready, OPEN_TIMEOUT_S, (slots.fd,))
        except BaseException:
            await process.close()
            raise
        if ready.warning:
            log.warning("%s", ready.warning)
        return cls(process, slots, ready.renderer, hang_s, on_done, on_death)

    @property
    def pid(self) -> int:
        """Of the worker."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be given frames."""
        return self._process.alive

    @property
    def waiting(self) -> int:
        """How many frames have been given and not answered."""
        return len(self._waiting)

    def give_frame(self, slot: int, index: int, time_s: float, colour: Colour) -> None:
        """Hand the picture in a slot over, to be dubbed; the slot stays the edge's as well.

        Args:
            slot: taken from `slots`, its source picture written.
            index: the frame's name in the answer.
            time_s: its media time; never less than the frame's before.
            colour: how its bytes are meant.

        Raises:
            ValueError: the slot was not taken, or is the worker's already.
        """
        if not self.alive:
            return
        self.slots.lend(slot)
        self._waiting[slot] = index
        self._process.send(wire.Frame(index, slot, time_s, colour.matrix, colour.full_range))

    def give_sound(self, samples: F32) -> None:
        """Hand the dub's next samples over, float32 [T], mono, 16 kHz; gapless from media time 0 on."""
        data = np.ascontiguousarray(samples, "<f4")
        for start in range(0, len(data), PIECE_SAMPLES):
            self._process.send(wire.Sound(data[start : start + PIECE_SAMPLES].tobytes()))

    def exchange(self, slots: SlotRing) -> bool:
        """Go on with pictures of another size: frames that wait are not answered, their slots are the edge's.

        The next sound is of media time 0. The former slots stay, for whoever shows them.

        Returns:
            False if the worker cannot be told: then nothing has changed, and another one must be opened.
        """
        order = wire.Exchange(slots.width, slots.height, len(slots))
        if not self._process.send(order, (slots.fd,)):
            return False
        self._let_go()
        self.slots, slots.on_abandoned = slots, self.skip
        self._exchanges += 1
        return True

    def skip(self, slot: int) -> None:
        """Nobody waits for the frame in that slot any more; it is answered all the same."""
        if slot in self._waiting:
            self._process.send(wire.Skip(self._waiting[slot]))

    def set_rung(self, rung: Rung) -> None:
        """Do more or less work from the next frame on: all, every second mouth, or none."""
        self._process.send(wire.SetRung(rung))

    def forget(self, start_s: float = 0.0) -> None:
        """Begin anew: frames that wait are answered as skipped; the next sound is of media time `start_s`."""
        self._process.send(wire.Forget(start_s))

    async def close(self) -> None:
        """End the worker and wait for that; `on_death` is not called. The slots stay."""
        self._timer.cancel()
        await self._process.close()
        self._let_go()

    def _take(self, message: wire.ToEdge) -> None:
        self._heard_s = self._loop.time()
        match message:
            case wire.Done() if self._exchanges:
                return  # of a former ring
            case wire.Done():
                if self._waiting.pop(message.slot, None) is None:
                    self._process.kill(f"it answered for slot {message.slot}, which it was not given")
                    return
                self.slots.returned(message.slot)
                self._on_done(_frame_done(message))
            case wire.Pong():
                self._ping = None
            case wire.Exchanged():
                self._exchanges -= 1
            case wire.Failed():
                self._process.kill(message.message)
            case wire.Warm() | wire.Ready() | wire.Measured():
                self._process.kill(f"it said {type(message).__name__} out of turn")
            case _:
                assert_never(message)

    def _watch(self) -> None:
        now_s = self._loop.time()
        if self._ping is None and self._waiting:
            self._pings += 1
            self._ping, self._heard_s = self._pings, now_s
            self._process.send(wire.Ping(self._pings))
        elif self._ping is not None and now_s - self._heard_s > self._hang_s:
            self._process.kill(f"no sign of life for {self._hang_s:g} s")
            return
        self._timer = self._loop.call_later(PING_S, self._watch)

    def _ended(self, why: str) -> None:
        self._timer.cancel()
        waited = len(self._waiting)
        self._let_go()
        self._on_death(WorkerError(f"worker {self.pid} is gone, {waited} frames waited: {why}"))

    def _let_go(self) -> None:
        self._waiting.clear()
        if self.slots.on_abandoned == self.skip:
            self.slots.on_abandoned = None
            self.slots.worker_gone()


async def ask(
    process: WorkerProcess,
    question: wire.ToWorker | None,
    answer: type[A],
    timeout_s: float,
    fds: tuple[int, ...] = (),
) -> A:
    """Say something to a process that does nothing else, warm or not yet, and wait for the answer.

    Raises:
        LivedubError: the worker's own, by its kind; WorkerError if it died, or gave no answer in time.
    """
    heard: asyncio.Future[wire.ToEdge] = asyncio.get_running_loop().create_future()

    def fail(why: str) -> None:
        if not heard.done():
            heard.set_exception(WorkerError(f"worker {process.pid} did not get ready: {why}"))

    def take(message: wire.ToEdge) -> None:
        if not heard.done() and (answer is wire.Warm or not isinstance(message, wire.Warm)):
            heard.set_result(message)

    if not process.alive:
        raise WorkerError(f"worker {process.pid} is gone")
    process.on_end = fail
    process.on_message = take
    if question is not None:
        process.send(question, fds)
    try:
        async with asyncio.timeout(timeout_s):
            message = await heard
    except TimeoutError:
        raise WorkerError(f"worker {process.pid} gave no answer in {timeout_s:.0f} s") from None
    if isinstance(message, wire.Failed):
        raise _error(message)
    if not isinstance(message, answer):
        raise WorkerError(f"worker {process.pid} said {type(message).__name__}, not {answer.__name__}")
    return message


def _error(failed: wire.Failed) -> LivedubError:
    kind = getattr(errors, failed.kind, WorkerError)
    usable = isinstance(kind, type) and issubclass(kind, LivedubError) and kind is not errors.CapacityError
    return kind(failed.message) if usable else WorkerError(failed.message)


def _order(options: SessionOptions, ring: SlotRing) -> wire.Open:
    return wire.Open(
        actor=str(options.actor),
        look_ahead_ms=options.look_ahead_ms,
        backend=options.backend,
        precision=options.precision,
        idle=options.idle,
        override_consent=options.override_consent,
        now_iso=datetime.now(UTC).isoformat(),
        width=ring.width,
        height=ring.height,
        slots=len(ring),
    )


def _frame_done(done: wire.Done) -> FrameDone:
    return FrameDone(done.index, done.slot, done.shown, done.level, done.confidence, done.cut, done.stages_ns)
