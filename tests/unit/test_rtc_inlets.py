import asyncio
import threading

import pytest

from streaming.rtc.capture_clock import SenderClock
from streaming.rtc.inlets import QUEUE_MAX_FRAMES, VideoInlet, VideoLimits
from streaming.rtc.peer import close_peer
from streaming.rtc.publisher import PublishLimits, answer_publisher
from streaming.rtc.receiver import Incoming
from streaming.rtc.video_decoder import THREADS, decode_pool
from streaming.types import VideoIn
from tests.support.rtc_peers import LOOPBACK, Steps, accept, offering, run, until
from tests.unit.test_rtc_picture_size import h264


def test_a_decoder_that_cannot_follow_drops_up_to_the_next_key_frame() -> None:
    gate = threading.Event()
    frames = [(h264(320, 192)), (h264(320, 192))]

    async def work() -> tuple[int, int, list[int]]:
        seen: list[int] = []
        inlet = VideoInlet(
            lambda frame: seen.append(frame.captured_ns),
            lambda reason: None,
            SenderClock(),
            VideoLimits(),
            lambda: 0,
        )
        for _ in range(THREADS):
            decode_pool().submit(gate.wait, 20)
        number, waiting = 0, 0

        def send(data: bytes) -> None:
            nonlocal number
            number += 1
            inlet.packet(Incoming("H264", number, 3600 * number, True, data, number * 40_000_000))

        send(frames[0][0])
        for index in range(60):
            send(frames[0][1 + index % 2])
            await asyncio.sleep(0)
            waiting = max(waiting, inlet._queue.qsize())
        assert inlet.wants_key(10**12)
        gate.set()
        send(frames[1][0])
        await until(lambda: len(seen) >= 2)
        inlet.end()
        await inlet.ended()
        return inlet.overrun, waiting, seen

    overrun, waiting, seen = run(work())
    assert overrun >= QUEUE_MAX_FRAMES
    assert waiting <= QUEUE_MAX_FRAMES
    assert len(seen) < 20


def test_a_taker_that_fails_ends_its_publisher_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail(frame: VideoIn) -> None:
        raise KeyError("of the taker")

    async def work() -> str:
        sender = await offering(Steps())
        publisher, answer = await answer_publisher(
            sender.localDescription.sdp, fail, lambda _: None, PublishLimits(peer=LOOPBACK)
        )
        await accept(sender, answer.sdp)
        await asyncio.wait_for(publisher.closed.wait(), 10)
        await close_peer(sender)
        return publisher.reason

    assert run(work()) == "the picture could not be taken: an error of ours"
    assert any(record.exc_info and record.exc_info[0] is KeyError for record in caplog.records)
