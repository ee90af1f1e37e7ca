"""What waits to be sent to one WebSocket: bounded, so that a client that does not read costs nothing."""

import asyncio
from collections import deque
from typing import Any

from streaming.types import Event

MAX_EVENTS = 64
MAX_REPLIES = 64
Fields = tuple[str, dict[str, Any]]


class Outbox:
    """Replies first, then the newest credit, then events; of the events the oldest give way.

    Attributes:
        dropped: events that gave way, in all.
        overflown: more replies wait than a client that reads would let wait.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self.overflown = False
        self._replies: deque[Fields] = deque()
        self._events: deque[Event] = deque()
        self._credit: int | None = None
        self._told_credit = -1
        self._missed = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._replies) + len(self._events) + (self._credit is not None)

    def reply(self, kind: str, **fields: Any) -> None:
        """Queue an answer; too many make the outbox overflow."""
        if len(self._replies) >= MAX_REPLIES:
            self.overflown = True
        else:
            self._replies.append((kind, fields))
        self._filled.set()

    def event(self, event: Event) -> None:
        """Queue an event; the oldest gives way."""
        if len(self._events) >= MAX_EVENTS:
            self._events.popleft()
            self.dropped += 1
            self._missed += 1
        self._events.append(event)
        self._filled.set()

    def credit(self, until: int) -> None:
        """Tell how much may have been sent in all, if that is more than was told."""
        if until > self._told_credit:
            self._credit = until
            self._filled.set()

    async def get(self) -> Fields:
        """Wait for the next message."""
        while not len(self) and not self.overflown:
            self._filled.clear()
            await self._filled.wait()
        return self._next()

    def _next(self) -> Fields:
        if self._replies:
            return self._replies.popleft()
        if self._credit is not None:
            until, self._credit = self._credit, None
            self._told_credit = until
            return "credit", {"until": until}
        if not self._events:
            return "error", {"re": None, "code": "slow", "message": "too many answers were not read"}
        event, missed = self._events.popleft(), self._missed
        self._missed = 0
        return "event", {"kind": event.kind, "data": dict(event.data), "dropped": missed}
