"""Events of a session for everyone who watches it; who reads slowly misses some, and holds nobody."""

import asyncio
from collections.abc import AsyncIterator

from streaming.types import Event

WAITING = 256


class Watchers:
    """Fans events out to bounded queues. Belongs to the event loop."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Event | None]] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._queues)

    def tell(self, event: Event) -> None:
        """Everyone is told; the oldest event goes where a queue is full."""
        for queue in self._queues:
            _put(queue, event)

    def end(self) -> None:
        """Nothing more will happen."""
        self._ended = True
        for queue in self._queues:
            _put(queue, None)

    async def events(self) -> AsyncIterator[Event]:
        """What happens from now on, until the end."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(WAITING)
        if self._ended:
            return
        self._queues.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._queues.discard(queue)


def _put(queue: "asyncio.Queue[Event | None]", event: Event | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(event)
