"""One encode for all viewers, and no viewer that harms another."""

import asyncio
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engine.errors import BackendError
from engine.image.yuv import I420, Colour
from streaming.rtc.encoder import EncodedFrame
from streaming.rtc.rate_control import RateOptions
from streaming.rtc.rendition import (
    VIDEO_QUEUE_BYTES,
    VIDEO_QUEUE_FRAMES,
    AudioRendition,
    VideoRendition,
    audio_pool,
    video_pool,
)
from streaming.rtc.subscription import Subscription

BT709 = Colour("bt709", full_range=False)
FRAME = 1920
MS = 1_000_000
SILENCE = np.zeros(960, np.int16)


@pytest.fixture(name="pool")
def _pool() -> Iterator[ThreadPoolExecutor]:
    with video_pool(1) as pool:
        yield pool


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def picture(seed: int) -> I420:
    image = I420.blank(128, 96)
    image.y[...] = np.random.default_rng(seed).integers(16, 235, (96, 128), dtype=np.uint8)
    return image


async def push(video: VideoRendition, clock: Clock, count: int, first: int = 0) -> list[EncodedFrame]:
    """Push pictures 40 ms apart; all must be encoded."""
    made = []
    for index in range(first, first + count):
        clock.now_ns = index * 40 * MS
        frame = await video.push(picture(index), BT709, index * FRAME)
        assert frame is not None
        made.append(frame)
    return made


async def take(subscription: Subscription) -> list[EncodedFrame]:
    return [await subscription.get() for _ in range(len(subscription))]


def with_video(
    pool: ThreadPoolExecutor,
    test: Callable[[VideoRendition, Clock], Awaitable[None]],
    rates: RateOptions = RateOptions(),  # noqa: B008
) -> None:
    async def work() -> None:
        clock = Clock()
        await test(VideoRendition(pool, rates=rates, now_ns=clock), clock)

    asyncio.run(work())


def test_every_viewer_gets_the_same_bytes_encoded_once(pool: ThreadPoolExecutor) -> None:
    async def test(video: VideoRendition, clock: Clock) -> None:
        viewers = [video.subscribe() for _ in range(3)]
        made = await push(video, clock, 5)
        for viewer in viewers:
            got = await take(viewer)
            assert all(a is b for a, b in zip(got, made, strict=True))
        assert video.stats().frames == 5
        assert video.stats().viewers == 3

    with_video(pool, test)


def test_nothing_is_encoded_while_nobody_watches(pool: ThreadPoolExecutor) -> None:
    async def test(video: VideoRendition, clock: Clock) -> None:
        assert await video.push(picture(0), BT709, 0) is None
        viewer = video.subscribe()
        await push(video, clock, 2, first=1)
        viewer.pause(True)
        assert await video.push(picture(0), BT709, 9 * FRAME) is None
        viewer.close()
        assert await video.push(picture(0), BT709, 10 * FRAME) is None
        assert video.stats().frames == 2

    with_video(pool, test)


def test_a_new_viewer_gets_a_keyframe_with_the_next_picture(pool: ThreadPoolExecutor) -> None:
    async def test(video: VideoRendition, clock: Clock) -> None:
        video.subscribe()
        await push(video, clock, 10)
        late = video.subscribe()
        (frame,) = await push(video, clock, 1, first=10)
        assert frame.keyframe
        assert [f.position for f in await take(late)] == [10 * FRAME]
        assert video.stats().keyframes == {"viewer": 2}

    with_video(pool, test)


def test_lost_pictures_of_many_viewers_cost_two_keyframes_a_second(pool: ThreadPoolExecutor) -> None:
    async def test(video: VideoRendition, clock: Clock) -> None:
        video.subscribe()
        made = []
        for index in range(50):
            for _ in range(5):
                video.request_keyframe("lost")
            made += await push(video, clock, 1, first=index)
        assert [i for i, frame in enumerate(made) if frame.keyframe] == [0, 13, 26, 39]

    with_video(pool, test)


def test_a_viewer_that_does_not_read_holds_nobody_and_little_memory(pool: ThreadPoolExecutor) -> None:
    async def test(video: VideoRendition, clock: Clock) -> None:
        fast, asleep = video.subscribe(), video.subscribe()
        await push(video, clock, 25)
        await take(fast)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        got = 0
        for second in range(8):
            await push(video, clock, 25, first=25 + 25 * second)
            got += len(await take(fast))
            assert len(asleep) <= VIDEO_QUEUE_FRAMES
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert got == 200
        assert grown < 3 * VIDEO_QUEUE_BYTES
        assert asleep.dropped > 100

    with_video(pool, test)


@pytest.mark.parametrize(
    ("told", "target_bps"),
    [
        ([None, None], 4_000_000),
        ([3_000_000, 900_000], 900_000),
        ([3_000_000, 100_000], 3_000_000),
        ([100_000, 50_000], 300_000),
        ([9_000_000, None], 4_000_000),
    ],
)
def test_the_bitrate_is_that_of_the_poorest_viewer_worth_following(
    pool: ThreadPoolExecutor, told: list[int | None], target_bps: int
) -> None:
    async def test(video: VideoRendition, clock: Clock) -> None:
        for bps in told:
            video.subscribe().target_bps = bps
        assert video.target_bps == target_bps

    with_video(pool, test)


def test_the_session_may_hold_the_bitrate_down(pool: ThreadPoolExecutor) -> None:
    async def test(video: VideoRendition, clock: Clock) -> None:
        video.subscribe().target_bps = 3_000_000
        for most_bps, target_bps in ((500_000, 500_000), (1, 300_000), (None, 3_000_000)):
            video.set_bitrate(most_bps)
            assert video.target_bps == video.stats().target_bps == target_bps

    with_video(pool, test)


def test_of_pictures_that_wait_for_the_encoder_only_the_newest_is_encoded(pool: ThreadPoolExecutor) -> None:
    async def test(video: VideoRendition, clock: Clock) -> None:
        video.subscribe()
        pushes = [video.push(picture(i), BT709, i * FRAME) for i in range(5)]
        done = await asyncio.gather(*pushes)
        assert [frame.position // FRAME for frame in done if frame is not None] == [0, 4]
        assert video.stats().skipped == 3
        assert await video.push(picture(4), BT709, 4 * FRAME) is None

    with_video(pool, test)


def test_a_push_that_is_cancelled_ends_after_its_encode() -> None:
    async def work() -> None:
        with ThreadPoolExecutor(2) as pool:
            running, release = threading.Event(), threading.Event()

            def hold() -> None:
                running.set()
                release.wait()

            pool.submit(hold)
            pool.submit(hold)
            video = VideoRendition(pool)
            viewer = video.subscribe()
            pushing = asyncio.ensure_future(video.push(picture(0), BT709, 0))
            await asyncio.sleep(0)
            await asyncio.to_thread(running.wait)
            pushing.cancel()
            await asyncio.wait({pushing}, timeout=0.05)
            assert not pushing.done()
            release.set()
            with pytest.raises(asyncio.CancelledError):
                await pushing
            assert len(viewer) == 0
            frame = await video.push(picture(1), BT709, FRAME)
            assert frame is not None

    asyncio.run(work())


def test_the_first_packet_of_a_frame_is_told_once(pool: ThreadPoolExecutor) -> None:
    async def work() -> None:
        told: list[EncodedFrame] = []
        clock = Clock()
        video = VideoRendition(pool, on_first_packet=told.append, now_ns=clock)
        video.subscribe()
        (frame,) = await push(video, clock, 1, first=1)
        for at_ns in (70, 90):
            video.left(frame, at_ns)
        assert told == [frame]
        assert (frame.encoded_ns, frame.first_packet_ns) == (40 * MS, 70)

    asyncio.run(work())


def test_closing_ends_every_queue(pool: ThreadPoolExecutor) -> None:
    async def test(video: VideoRendition, clock: Clock) -> None:
        viewer = video.subscribe()
        video.close()
        assert not viewer.active
        assert not video.subscribe().active
        assert await video.push(picture(0), BT709, 0) is None

    with_video(pool, test)


def test_sound_goes_to_all_in_the_order_of_the_calls() -> None:
    async def work() -> None:
        with audio_pool() as pool:
            audio = AudioRendition(pool)
            assert await audio.push(SILENCE, 0) is None
            viewers = [audio.subscribe(), audio.subscribe()]
            await asyncio.gather(*(audio.push(SILENCE, i * 960) for i in range(20)))
            for viewer in viewers:
                got = await take(viewer)
                assert [frame.position + 312 for frame in got] == [i * 960 for i in range(20)]
            assert audio.stats().frames == 20
            audio.close()

    asyncio.run(work())


def test_closing_sound_lets_the_encoder_go_that_is_at_work() -> None:
    async def work() -> None:
        with audio_pool() as pool:
            idle, busy = AudioRendition(pool), AudioRendition(pool)
            viewer = busy.subscribe()
            held = threading.Event()
            pool.submit(held.wait)
            pushing = asyncio.ensure_future(busy.push(SILENCE, 0))
            await asyncio.sleep(0)
            for audio in (idle, busy):
                audio.close()
            held.set()
            await pushing
            assert await take(viewer) == []
            for audio in (idle, busy):
                with pytest.raises(BackendError, match="closed"):
                    audio._encoder.encode(SILENCE, 960)

    asyncio.run(work())
