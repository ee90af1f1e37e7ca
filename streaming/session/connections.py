"""The WebRTC connections of a session: at most one that publishes, any number that watch."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from engine.errors import CapacityError, OfferError
from streaming.rtc.peer import PeerOptions
from streaming.rtc.publisher import Publisher, PublishLimits, answer_publisher
from streaming.rtc.rendition import AudioRendition, VideoRendition
from streaming.rtc.sdp import OfferLimits
from streaming.rtc.viewer import Viewer, answer_viewer
from streaming.types import Answer, AudioIn, VideoIn

One = TypeVar("One", Viewer, Publisher)
MOST = 64  # a viewer costs a socket, a key and its packets' encryption
RETRY_AFTER_S = 10  # those that never connect are gone by then


class Connections:
    """Opens connections, and forgets those that close by themselves. Belongs to the event loop.

    Args:
        offers, peers: what an offer may be, and how connections are opened.
        on_change: called when there is another, or one less.
    """

    def __init__(self, offers: OfferLimits, peers: PeerOptions, on_change: Callable[[], None]) -> None:
        self._offers, self._peers, self._on_change = offers, peers, on_change
        self._open: dict[str, Viewer | Publisher] = {}
        self._publisher: Publisher | None = None
        self._retransmitted_before = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._publishing, self._answering, self._closed = asyncio.Lock(), 0, False

    def __len__(self) -> int:
        """How many were heard of lately, or are about to be: silence shall not keep a session."""
        return sum(one.state in {"waiting", "live"} for one in self._open.values())

    @property
    def viewers(self) -> int:
        """How many watch."""
        return sum(isinstance(one, Viewer) for one in self._open.values())

    @property
    def retransmitted_bytes(self) -> int:
        """Sent again to viewers, also to those that are gone."""
        now = sum(_retransmitted(one) for one in self._open.values() if isinstance(one, Viewer))
        return self._retransmitted_before + now

    async def publish(
        self, sdp: str, on_video: Callable[[VideoIn], None], on_audio: Callable[[AudioIn], None]
    ) -> Answer:
        """Accept a publisher; one that fell silent gives way.

        Raises:
            OfferError: the offer cannot be accepted.
            CapacityError: somebody publishes already.
        """
        limits = PublishLimits(offer=self._offers, peer=self._peers)
        async with self._publishing:  # two at once would both find nobody there
            before = self._publisher
            if before is not None and not before.closed.is_set():
                if before.state == "live":
                    raise CapacityError("somebody publishes to this session already")
                await before.close()
            publisher, answer = await self._opened(answer_publisher(sdp, on_video, on_audio, limits))
            self._publisher = publisher
            return answer

    async def view(self, sdp: str, video: VideoRendition, audio: AudioRendition) -> Answer:
        """Accept a viewer.

        Raises:
            OfferError: the offer cannot be accepted.
            CapacityError: there are as many connections as there may be.
        """
        answering = answer_viewer(sdp, video, audio, self._offers, options=self._peers)
        return (await self._opened(answering))[1]

    async def _opened(self, answering: Coroutine[Any, Any, tuple[One, Answer]]) -> tuple[One, Answer]:
        """A connection that is kept, and its answer."""
        if self._closed or len(self._open) + self._answering >= MOST:
            answering.close()
            raise CapacityError(f"this session has {len(self._open)} connections", RETRY_AFTER_S)
        self._answering += 1
        try:
            connection, answer = await answering
        finally:
            self._answering -= 1
        if self._closed:  # meanwhile
            await connection.close()
            raise OfferError("the session is over")
        self._keep(connection)
        return connection, answer

    async def trickle(self, resource: str, fragment: str) -> bool:
        """Give a connection more of its peer's candidates; False if it is not there (any more).

        Raises:
            OfferError: the fragment is malformed, or there are too many candidates.
        """
        connection = self._open.get(resource)
        if connection is None:
            return False
        await connection.trickle(fragment, self._offers)
        return True

    async def end(self, resource: str) -> bool:
        """Close a connection; False if it is not there (any more)."""
        connection = self._open.get(resource)
        if connection is None:
            return False
        await connection.close()
        return True

    async def close(self) -> None:
        """Close all, and take no others."""
        self._closed = True
        await asyncio.gather(*(connection.close() for connection in list(self._open.values())))
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _keep(self, connection: Viewer | Publisher) -> None:
        self._open[connection.resource] = connection
        self._run(self._forget(connection))
        self._on_change()

    async def _forget(self, connection: Viewer | Publisher) -> None:
        await connection.closed.wait()
        del self._open[connection.resource]
        if isinstance(connection, Viewer):
            self._retransmitted_before += _retransmitted(connection)
        if self._publisher is connection:
            self._publisher = None
        self._on_change()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _retransmitted(viewer: Viewer) -> int:
    stats = viewer.stats()
    return sum(sent.retransmitted_bytes for sent in (stats.video, stats.audio) if sent is not None)
