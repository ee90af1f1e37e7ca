"""A viewer's queue: bounded, and never a frame that cannot be decoded."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.rtc.encoder import EncodedFrame
from streaming.rtc.subscription import Subscription, SubscriptionClosed


def frame(position: int, *, keyframe: bool = False, size: int = 100) -> EncodedFrame:
    data = bytes(size)
    return EncodedFrame(data, (data,), position, keyframe)


class Told:
    """What a subscription tells its rendition."""

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.closed = 0

    def subscription(self, frames_max: int = 4, bytes_max: int = 100_000) -> Subscription:
        return Subscription(
            frames_max, bytes_max, lambda _, why: self.waits.append(why), lambda _: self._close()
        )

    def _close(self) -> None:
        self.closed += 1


def drained(subscription: Subscription) -> list[int]:
    async def work() -> list[int]:
        return [(await subscription.get()).position for _ in range(len(subscription))]

    return asyncio.run(work())


def test_a_new_viewer_begins_at_a_keyframe() -> None:
    subscription = Told().subscription()
    for position, keyframe in ((0, False), (1, False), (2, True), (3, False)):
        subscription.put(frame(position, keyframe=keyframe))
    assert subscription.keyframe_waits
    assert drained(subscription) == [2, 3]
    assert not subscription.keyframe_waits
    assert subscription.dropped == 2


def test_one_that_falls_behind_goes_on_at_the_next_keyframe() -> None:
    told = Told()
    subscription = told.subscription()
    for position in range(10):
        subscription.put(frame(position, keyframe=position == 0))
    assert len(subscription) == 0
    assert told.waits == ["slow"]
    subscription.put(frame(10, keyframe=True))
    subscription.put(frame(11))
    assert drained(subscription) == [10, 11]
    assert subscription.dropped == 10


def test_a_keyframe_that_finds_the_queue_full_replaces_it() -> None:
    told = Told()
    subscription = told.subscription()
    for position in range(4):
        subscription.put(frame(position, keyframe=position == 0))
    subscription.put(frame(4, keyframe=True))
    assert drained(subscription) == [4]
    assert told.waits == []


def test_bytes_are_bounded_too() -> None:
    subscription = Told().subscription(frames_max=1000, bytes_max=1000)
    for position in range(20):
        subscription.put(frame(position, keyframe=position % 10 == 0, size=300))
    assert len(subscription) <= 3


def test_a_paused_viewer_takes_nothing_and_asks_when_it_goes_on() -> None:
    told = Told()
    subscription = told.subscription()
    subscription.put(frame(0, keyframe=True))
    subscription.pause(True)
    subscription.pause(True)
    subscription.put(frame(1))
    assert len(subscription) == 0
    subscription.pause(False)
    subscription.pause(False)
    assert told.waits == ["viewer"]
    subscription.put(frame(2))
    subscription.put(frame(3, keyframe=True))
    assert drained(subscription) == [3]


def test_one_that_lost_a_picture_goes_on_at_a_keyframe() -> None:
    told = Told()
    subscription = told.subscription()
    subscription.put(frame(0, keyframe=True))
    subscription.lost()
    subscription.put(frame(1))
    subscription.put(frame(2, keyframe=True))
    assert drained(subscription) == [2]
    assert told.waits == ["lost"]


def test_closing_wakes_who_waits() -> None:
    told = Told()
    subscription = told.subscription()

    async def work() -> None:
        waiting = asyncio.ensure_future(subscription.get())
        await asyncio.sleep(0)
        subscription.close()
        subscription.close()
        with pytest.raises(SubscriptionClosed):
            await waiting

    asyncio.run(work())
    subscription.put(frame(0, keyframe=True))
    subscription.pause(False)
    assert (len(subscription), told.closed, subscription.active) == (0, 1, False)


@settings(deadline=None, max_examples=50)
@given(steps=st.lists(st.sampled_from(["put", "key", "get", "pause", "go on"]), max_size=60))
def test_frames_are_sent_dropped_or_waiting_and_decodable(steps: list[str]) -> None:
    subscription = Told().subscription(frames_max=5)
    taken: list[EncodedFrame] = []

    async def work() -> int:
        put = 0
        for step in steps:
            if step in ("put", "key"):
                put += subscription.active
                subscription.put(frame(put - 1, keyframe=step == "key"))
            elif step == "get" and len(subscription):
                taken.append(await subscription.get())
            elif step in ("pause", "go on"):
                subscription.pause(step == "pause")
            assert len(subscription) <= 5
        return put

    put = asyncio.run(work())
    assert put == len(taken) + subscription.dropped + len(subscription)
    followed = [b.keyframe or b.position == a.position + 1 for a, b in pairwise(taken)]
    assert all(followed)
    assert not taken or taken[0].keyframe
