"""The worker of a session, kept alive: one that dies is replaced, another picture size is handed to it."""

import asyncio
import logging
from collections.abc import Callable

from engine.arrays import F32
from engine.errors import InputError, LivedubError, WorkerError
from engine.image.yuv import Colour
from streaming.types import SessionOptions
from streaming.worker.link import FrameDone, WorkerLink
from streaming.worker.pool import WorkerPool
from streaming.worker.slots import SlotRing
from streaming.worker.wire import Rung

RETRY_S = (0.0, 1.0, 2.0, 5.0)
HEALTHY_S = 2.0  # between a worker's first drawn picture and its last
LONG_LIFE_S = 30.0  # of a worker, whether it was asked to draw or not

log = logging.getLogger(__name__)


class Patience:
    """How long to wait before the next worker is opened.

    A worker that drew for a while was healthy: its death is no reason to wait. A device or an actor may fail
    every time, when it is opened or soon after that; each such failure in a row makes the next wait longer.

    Args:
        clock_s: monotonic.
    """

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._failures = 0  # in a row
        self._up_s: float | None = None
        self._drawn_s: tuple[float, float] | None = None  # first and last picture of the present worker

    def up(self) -> None:
        """A worker is ready."""
        self._up_s, self._drawn_s = self._clock_s(), None

    def drawn(self) -> None:
        """It drew a picture."""
        now_s = self._clock_s()
        self._drawn_s = (self._drawn_s[0] if self._drawn_s else now_s, now_s)

    def failed(self) -> float:
        """It died, or none came up; seconds to wait now."""
        if self._was_healthy():
            self._failures = 0
        wait_s = RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
        self._up_s = self._drawn_s = None
        return wait_s

    def _was_healthy(self) -> bool:
        drew = self._drawn_s is not None and self._drawn_s[1] - self._drawn_s[0] >= HEALTHY_S
        return drew or (self._up_s is not None and self._clock_s() - self._up_s >= LONG_LIFE_S)


class Dubbing:
    """One session's worker. Belongs to the event loop.

    Args:
        pool: gives workers.
        options: of the session.
        slots: of the session's pictures.
        on_done: called with a worker's answers.
        on_up, on_down: called when a worker is ready for frames, and when it is gone or will be.
    """

    def __init__(
        self,
        pool: WorkerPool,
        options: SessionOptions,
        slots: SlotRing,
        *,
        on_done: Callable[[FrameDone], None],
        on_up: Callable[[str], None],
        on_down: Callable[[str], None],
    ) -> None:
        self._pool, self._options, self._slots = pool, options, slots
        self._on_done, self._on_up, self._on_down = on_done, on_up, on_down
        self._link: WorkerLink | None = None
        self._opening: asyncio.Task[None] | None = None
        self._rung: Rung = "full"
        self._patience = Patience(asyncio.get_running_loop().time)

    @property
    def name(self) -> str | None:
        """Backend and precision of the renderer that is open."""
        return self._link.name if self._link else None

    @property
    def pid(self) -> int | None:
        """Of the worker that is open."""
        return self._link.pid if self._link else None

    async def start(self) -> None:
        """Open the first worker.

        Raises:
            InputError: the actor cannot be used.
            BackendError: no worker came up.
        """
        await self._open()

    def exchange(self, slots: SlotRing) -> None:
        """Go on with other slots, of another size; `on_up` follows when that is ready, mostly at once."""
        self._slots = slots
        self._on_down("the picture has another size")
        if self._link is not None and self._link.exchange(slots):
            self._on_up(self._link.name)
            return
        before, self._link = (self._opening, self._link), None
        self._opening = asyncio.create_task(self._open_anew(*before))

    def give_frame(self, slot: int, index: int, time_s: float, colour: Colour) -> None:
        """Hand a frame over; see `WorkerLink.give_frame`."""
        if self._link is not None:
            self._link.give_frame(slot, index, time_s, colour)

    def skip(self, slot: int) -> None:
        """The frame in a slot has left without its mouth: nobody needs it drawn any more."""
        if self._link is not None:
            self._link.skip(slot)

    def give_sound(self, samples: F32) -> None:
        """Hand sound over; see `WorkerLink.give_sound`."""
        if self._link is not None:
            self._link.give_sound(samples)

    def set_rung(self, rung: Rung) -> None:
        """How much the worker, and those after it, shall do."""
        self._rung = rung
        if self._link is not None:
            self._link.set_rung(rung)

    async def close(self) -> None:
        """End the worker."""
        opening, link, self._opening, self._link = self._opening, self._link, None, None
        await _ended(opening, link)

    async def _open_anew(self, opening: asyncio.Task[None] | None, link: WorkerLink | None) -> None:
        await _ended(opening, link)
        await self._open_until_up(0.0)

    async def _open(self) -> None:
        link = await self._pool.start(self._options, self._slots, on_done=self._answered, on_death=self._died)
        self._link = link
        self._patience.up()
        link.set_rung(self._rung)
        self._on_up(link.name)

    async def _open_until_up(self, wait_s: float) -> None:
        while self._link is None:
            await asyncio.sleep(wait_s)
            try:
                await self._open()
            except InputError as error:
                log.warning("the actor cannot be opened any more: %s", error)
                return
            except LivedubError as error:
                log.warning("no worker came up: %s", error)
                wait_s = self._patience.failed()

    def _answered(self, done: FrameDone) -> None:
        if done.level > 0:
            self._patience.drawn()
        self._on_done(done)

    def _died(self, error: WorkerError) -> None:
        log.warning("%s", error)
        self._link = None
        self._on_down(str(error))
        self._opening = asyncio.create_task(self._open_until_up(self._patience.failed()))


async def _ended(opening: asyncio.Task[None] | None, link: WorkerLink | None) -> None:
    if opening is not None:
        opening.cancel()
        await asyncio.wait({opening})
    if link is not None:
        await link.close()
