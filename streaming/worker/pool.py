"""Workers for all sessions of this machine: a spare, and how many sessions there is room for."""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from engine.errors import WorkerError
from streaming.types import SessionOptions
from streaming.worker import wire
from streaming.worker.link import HANG_S, FrameDone, WorkerLink, ask
from streaming.worker.process import WorkerProcess
from streaming.worker.slots import SlotRing

MEASURE_TIMEOUT_S = 60.0
RATE_HZ = 25.0
EDGE_FRAME_S = 0.022  # of CPU for a live 720p frame beside the worker: receive, decode, encode, send
USABLE = 0.85  # of the cores: above it deadlines begin to be missed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Capacity:
    """What this machine can do.

    Attributes:
        frame_s: a worker's CPU time for one frame, tracking included.
        frames_per_s: of one worker with a core of its own.
        sessions: at 25 fps, at least 1.
    """

    frame_s: float
    frames_per_s: float
    sessions: int


def capacity_of(frame_s: float, cores: int) -> Capacity:
    """What that time for a frame means on so many cores."""
    sessions = int(USABLE * cores / (RATE_HZ * (frame_s + EDGE_FRAME_S)))
    return Capacity(frame_s, 1 / frame_s, max(1, sessions))


class WorkerPool:
    """Opens workers, quickly, as one process always waits for its actor.

    It gets warm after everybody else, or at once when it is needed before that.

    Use as `async with WorkerPool() as pool`. Workers that were handed out are their owner's to close.
    """

    def __init__(self) -> None:
        self._spare: asyncio.Task[WorkerProcess] | None = None
        self._closed = False

    async def __aenter__(self) -> "WorkerPool":
        """Begin a spare; does not wait for it."""
        self._prepare()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `close`."""
        await self.close()

    async def start(
        self,
        options: SessionOptions,
        slots: SlotRing,
        *,
        on_done: Callable[[FrameDone], None],
        on_death: Callable[[WorkerError], None],
        hang_s: float = HANG_S,
    ) -> WorkerLink:
        """As `WorkerLink.start`, in the spare process; the next spare is begun afterwards.

        Raises:
            InputError, BackendError: as there.
        """
        process = await self._take()
        try:
            return await WorkerLink.start(
                options, slots, on_done=on_done, on_death=on_death, process=process, hang_s=hang_s
            )
        finally:
            self._prepare()

    async def measure(self, actor: Path | None = None, *, width: int = 1280, height: int = 720) -> Capacity:
        """Time some frames of an actor, by default of one made up; takes a few seconds of one core.

        Raises:
            InputError, BackendError: the actor cannot be opened here.
        """
        process = await self._take()
        try:
            order = wire.Measure(None if actor is None else str(actor), width, height)
            answer = await ask(process, order, wire.Measured, MEASURE_TIMEOUT_S)
        finally:
            await process.close()
            self._prepare()
        return capacity_of(answer.frame_s, len(os.sched_getaffinity(0)))

    async def close(self) -> None:
        """End the spare; no worker is opened afterwards."""
        self._closed = True
        spare, self._spare = self._spare, None
        if spare is None:
            return
        spare.cancel()
        (got,) = await asyncio.gather(spare, return_exceptions=True)
        if isinstance(got, WorkerProcess):
            await got.close()

    def _prepare(self) -> None:
        if self._spare is None and not self._closed:
            self._spare = asyncio.create_task(WorkerProcess.spawn(spare=True), name="spare worker")

    async def _take(self) -> WorkerProcess:
        """The spare, warm or not, or a new process if it did not live."""
        if self._closed:
            raise WorkerError("the pool of workers is closed")
        spare, self._spare = self._spare, None
        if spare is not None:
            try:
                process = await spare
                if process.alive:
                    return process
                await process.close()
                log.warning("the spare worker died; another one is started")
            except WorkerError as error:
                log.warning("there is no spare worker: %s", error)
        return await WorkerProcess.spawn()
