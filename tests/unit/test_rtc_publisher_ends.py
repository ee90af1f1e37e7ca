"""How a publisher ends: limits, failures, silence, farewell."""

import asyncio
import os
import random
import struct
import threading

import pytest

from streaming.rtc.inlets import VideoLimits
from streaming.rtc.peer import PeerOptions, close_peer
from streaming.rtc.publisher import PublishLimits
from streaming.rtc.video_decoder import THREADS
from tests.support.rtc_peers import (
    LOOPBACK,
    Steps,
    Tone,
    run,
    until,
    vanish,
    worst_stall_ms,
)
from tests.support.rtc_publishing import Inbox, publishing

QUICK = PeerOptions(addresses=("127.0.0.1",), stalled_after_s=0.3, gone_after_s=0.9)


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_a_picture_that_is_too_large_ends_the_publisher_with_a_plain_reason(codec: str) -> None:
    limits = PublishLimits(peer=LOOPBACK, video=VideoLimits(width_max=160, height_max=90))

    async def work() -> tuple[str, Inbox]:
        async with publishing(Steps(), codec=codec, limits=limits) as (_, publisher, inbox):
            await asyncio.wait_for(publisher.closed.wait(), 10)
            return publisher.reason, inbox

    reason, inbox = run(work())
    assert reason == "the video has 320x192 px, at most 160x90 is accepted"
    assert inbox.pictures == []


def test_too_many_pictures_end_the_publisher() -> None:
    limits = PublishLimits(peer=LOOPBACK, video=VideoLimits(fps_max=10))

    async def work() -> str:
        async with publishing(Steps(fps=50), limits=limits) as (_, publisher, _):
            await asyncio.wait_for(publisher.closed.wait(), 15)
            return publisher.reason

    assert run(work()) == "the video has more than 10 frames per second"


def test_a_publisher_that_vanishes_is_released() -> None:
    async def work() -> tuple[list[str], str]:
        states: list[str] = []
        async with publishing(Steps(), Tone(), limits=PublishLimits(peer=QUICK)) as (
            sender,
            publisher,
            inbox,
        ):
            publisher.on_state = states.append
            await until(lambda: len(inbox.pictures) > 0 and publisher.state == "live")
            vanish(sender)
            await asyncio.wait_for(publisher.closed.wait(), 10)
            return states, publisher.reason

    states, reason = run(work())
    assert states[-2:] == ["stalled", "gone"]
    assert reason == "the publisher is gone"


def test_a_publisher_that_says_goodbye_is_released_at_once() -> None:
    async def work() -> str:
        async with publishing(Steps(), Tone()) as (sender, publisher, inbox):
            await until(lambda: len(inbox.pictures) > 0)
            await close_peer(sender)
            await asyncio.wait_for(publisher.closed.wait(), 3)
            await publisher.close("again")
            return publisher.reason

    assert run(work()) == "the publisher is gone"


def test_threads_do_not_grow_with_publishers() -> None:
    async def work() -> None:
        async with publishing(Steps(), Tone()) as (_, _, inbox):
            await until(lambda: len(inbox.pictures) > 0)

    before: set[str] = set()
    for _ in range(3):
        run(work())
        names = {thread.name for thread in threading.enumerate()}
        assert sum(name.startswith("rtc-decode") for name in names) <= THREADS
        assert not any("decoder" in name for name in names)
        before = before or names
    assert len(names) <= len(before) + THREADS


def test_random_media_from_the_publisher_ends_at_most_its_own_session() -> None:
    r = random.Random(5)

    async def work() -> tuple[float, int, bool]:
        stop = asyncio.Event()
        watching = asyncio.ensure_future(worst_stall_ms(stop))
        async with (
            publishing(Steps(), Tone()) as (_, good, inbox),
            publishing(Steps(), Tone()) as (bad_sender, bad, _),
        ):
            await until(lambda: len(inbox.pictures) > 5 and bad.state == "live")
            numbers = [c.payloadType or 0 for t in bad_sender.getTransceivers() for c in t._codecs]
            for number in range(600):
                header = struct.pack(
                    "!BBHLL", 0x80, r.choice(numbers) | r.choice([0, 128]), number, r.getrandbits(32), 7
                )
                dtls = bad_sender.transports[0]
                if dtls.state == "connected":
                    await dtls._send_rtp(header + os.urandom(r.randrange(0, 900)))
                    await dtls._send_rtp(
                        struct.pack("!BBHL", 0x80 | r.randrange(32), 200 + r.randrange(7), 5, 7)
                        + os.urandom(20)
                    )
                if number % 50 == 0:
                    await asyncio.sleep(0.005)
            before = len(inbox.pictures)
            await until(lambda: len(inbox.pictures) > before + 10)
            stop.set()
            return await watching, len(inbox.pictures), good.closed.is_set()

    stall_ms, pictures, closed = run(work())
    assert stall_ms < 50
    assert pictures > 15
    assert not closed
