"""Sound that is there as a whole, fed into a session as fast as it has room."""

import asyncio
import itertools
import logging

import numpy as np
from numpy.typing import NDArray

from engine.errors import LivedubError
from streaming.server.context import Server
from streaming.server.manager import SessionLike
from streaming.types import MEDIA_RATE_HZ, AudioIn

PIECE_MS = 100
WAIT_S = 0.05
_NUMBERS = itertools.count(1_000_000_000)  # of utterances: far from those of clients
_LOG = logging.getLogger(__name__)


def say(server: Server, session: SessionLike, samples: NDArray[np.int16], rate_hz: int) -> int:
    """Let a session say it, in a task of the server's; returns the number of the utterance."""
    utterance = next(_NUMBERS)
    task = asyncio.get_running_loop().create_task(feed(session, samples, rate_hz, utterance))
    server.tasks.add(task)
    task.add_done_callback(server.tasks.discard)
    return utterance


async def feed(session: SessionLike, samples: NDArray[np.int16], rate_hz: int, utterance: int) -> None:
    """Give all of it, in pieces, waiting while there is no room. Ends early with the session."""
    step = rate_hz * PIECE_MS // 1000
    try:
        for start in range(0, len(samples), step):
            while session.room < PIECE_MS * MEDIA_RATE_HZ // 1000:
                if session.closed.is_set():
                    return
                await asyncio.sleep(WAIT_S)
            await session.dub(AudioIn(samples[start : start + step], rate_hz), utterance)
        await session.end_utterance(utterance)
    except LivedubError as error:
        _LOG.warning("a sentence was cut short: %s", error)
