"""Sound that is there as a whole, fed into a session as fast as it has room."""

import asyncio
import itertools
import logging
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from engine.errors import CapacityError, LivedubError
from streaming.server.manager import SessionLike
from streaming.types import MEDIA_RATE_HZ, AudioIn

PIECE_MS = 100
WAIT_S = 0.05
MAX_WAITING = 32
_LOG = logging.getLogger(__name__)


class Sentences:
    """The sentences of a server that are on their way into sessions; in each session one after the other."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: WeakKeyDictionary[SessionLike, asyncio.Lock] = WeakKeyDictionary()
        self._numbers = itertools.count(1_000_000_000)  # far from those that clients give

    def __len__(self) -> int:
        return len(self._tasks)

    def say(self, session: SessionLike, samples: NDArray[np.int16], rate_hz: int) -> int:
        """Let a session say it when its turn comes.

        Args:
            session: that speaks.
            samples: int16 [T], mono.
            rate_hz: of them.

        Returns:
            The number of the utterance.

        Raises:
            CapacityError: too many wait already.
        """
        if len(self) >= MAX_WAITING:
            raise CapacityError(f"{MAX_WAITING} sentences wait to be spoken already; try again when some are")
        utterance = next(self._numbers)
        turn = self._turns.setdefault(session, asyncio.Lock())
        task = asyncio.get_running_loop().create_task(_feed(turn, session, samples, rate_hz, utterance))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return utterance

    async def close(self) -> None:
        """Say nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _feed(
    turn: asyncio.Lock, session: SessionLike, samples: NDArray[np.int16], rate_hz: int, utterance: int
) -> None:
    """Give all of it, in pieces, waiting while there is no room. Ends early with the session."""
    step = rate_hz * PIECE_MS // 1000
    async with turn:
        try:
            for start in range(0, len(samples), step):
                while session.room < PIECE_MS * MEDIA_RATE_HZ // 1000:
                    if session.closed.is_set():
                        return
                    await asyncio.sleep(WAIT_S)
                await session.dub(AudioIn(samples[start : start + step], rate_hz), utterance)
                await asyncio.sleep(0)
            await session.end_utterance(utterance)
        except LivedubError as error:
            _LOG.warning("a sentence was cut short: %s", error)
