import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from engine.errors import CapacityError, OfferError
from streaming.rtc.peer import close_peer
from streaming.rtc.rendition import AudioRendition, VideoRendition
from streaming.rtc.sdp import OfferLimits
from streaming.session import connections
from streaming.session.connections import Connections
from streaming.types import Answer
from tests.support.rtc_peers import LOOPBACK, Steps, accept, offering, run, until


class Stage:
    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.connections = Connections(OfferLimits(), LOOPBACK, lambda: None)
        self.video, self.audio = VideoRendition(pool), AudioRendition(pool)

    async def publish(self, sdp: str) -> Answer:
        return await self.connections.publish(sdp, lambda frame: None, lambda piece: None)

    async def view(self, sdp: str) -> Answer:
        return await self.connections.view(sdp, self.video, self.audio)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    with ThreadPoolExecutor(1) as pool:
        made = Stage(pool)
        try:
            yield made
        finally:
            await made.connections.close()


async def viewer_offer() -> str:
    peer = await offering()
    peer.addTransceiver("video", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    sdp = peer.localDescription.sdp
    await close_peer(peer)
    return sdp


def test_of_two_publishers_at_once_one_is_left() -> None:
    async def play() -> None:
        async with stage() as on:
            peers = [await offering(Steps(), codec="VP8") for _ in range(2)]
            first, second = await asyncio.gather(*(on.publish(p.localDescription.sdp) for p in peers))
            await accept(peers[1], second.sdp)
            await until(lambda: peers[1].connectionState == "connected")
            assert not await on.connections.end(first.resource)  # it gave way: nobody had come through it
            assert await on.connections.end(second.resource)
            for peer in peers:
                await close_peer(peer)

    run(play())


def test_there_is_no_more_room_than_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 2)

    async def play() -> None:
        async with stage() as on:
            sdp = await viewer_offer()
            done = await asyncio.gather(*(on.view(sdp) for _ in range(3)), return_exceptions=True)
            (refused,) = (one for one in done if isinstance(one, BaseException))
            assert isinstance(refused, CapacityError)
            assert refused.retry_after_s == connections.RETRY_AFTER_S
            (kept, _) = (one for one in done if isinstance(one, Answer))
            assert await on.connections.end(kept.resource)
            await until(lambda: len(on.connections) == 1)
            await on.view(sdp)

    run(play())


def test_who_comes_while_it_closes_is_not_kept() -> None:
    async def play() -> None:
        async with stage() as on:
            sdp = await viewer_offer()
            coming = asyncio.ensure_future(on.view(sdp))
            await asyncio.sleep(0)
            await on.connections.close()
            with pytest.raises(OfferError, match="over"):
                await coming
            assert len(on.connections) == 0
            with pytest.raises(CapacityError):
                await on.view(sdp)

    run(play())
