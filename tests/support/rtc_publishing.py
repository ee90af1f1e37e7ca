"""A publisher on loopback and what it sends, for tests."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from streaming.rtc.peer import Peer, close_peer
from streaming.rtc.publisher import Publisher, PublishLimits, answer_publisher
from streaming.types import AudioIn, VideoIn
from tests.support.rtc_peers import LOOPBACK, Steps, Tone, accept, offering


@dataclass(frozen=True)
class Seen:
    """What is kept of a picture; the picture itself is borrowed."""

    luma: float
    size: tuple[int, int]
    captured_ns: int
    received_ns: int
    decoded_ns: int


@dataclass
class Inbox:
    pictures: list[Seen] = field(default_factory=list)
    sounds: list[AudioIn] = field(default_factory=list)

    def video(self, frame: VideoIn) -> None:
        image, stamps = frame.image, frame.stamps_ns
        luma = float(image.y[10, 10])
        size = (image.width, image.height)
        self.pictures.append(Seen(luma, size, frame.captured_ns, stamps["received"], stamps["decoded"]))


@asynccontextmanager
async def publishing(
    video: Steps | None = None,
    audio: Tone | None = None,
    *,
    codec: str = "H264",
    limits: PublishLimits | None = None,
) -> AsyncIterator[tuple[Peer, Publisher, Inbox]]:
    """A connected publisher that sends the tracks."""
    tracks = [track for track in (video, audio) if track is not None]
    sender, inbox = await offering(*tracks, codec=codec), Inbox()
    limits = limits or PublishLimits(peer=LOOPBACK)
    publisher, answer = await answer_publisher(
        sender.localDescription.sdp, inbox.video, inbox.sounds.append, limits
    )
    try:
        await accept(sender, answer.sdp)
        yield sender, publisher, inbox
    finally:
        await close_peer(sender)
        await publisher.close("the test is over")


def steps(pictures: list[Seen]) -> list[int]:
    """How far the counter in the picture moved from one to the next."""
    numbers = [round((picture.luma - 32) / 3) for picture in pictures]
    return [(b - a) % 64 for a, b in itertools.pairwise(numbers)]


def lose(publisher: Publisher, drop: Callable[[bytes], bool]) -> None:
    """Let datagrams for the publisher's connection get lost on the way."""
    for agent in publisher._peer.connections():
        take = agent.data_received

        def maybe(data: bytes, component: int, take: Callable[[bytes, int], None] = take) -> None:
            if not drop(data):
                take(data, component)

        agent.data_received = maybe  # type: ignore[method-assign]
