"""What leaves a session: a real encoder, and a decoder that looks."""

import asyncio
import time

import numpy as np
import pytest

from engine.composite.mark import Mark, stamp
from engine.image.yuv import I420, Colour
from streaming.core.actions import LeaveVideo
from streaming.rtc.rendition import audio_pool, video_pool
from streaming.server.metrics import Metrics
from streaming.session.output import Output, Passage
from streaming.session.pictures import Pictures
from streaming.session.resources import Resources
from streaming.worker.pool import WorkerPool
from tests.support.rtc_peers import LOOPBACK, run

COLOUR = Colour("bt709", full_range=False)


def grey() -> I420:
    image = I420.blank(320, 240)
    image.y[:] = 120
    return image


async def sent(mark: Mark, pictures: Pictures, *, dubbed: bool) -> I420:
    """The picture as it is when it goes to the encoder."""
    with video_pool(1) as encoders, audio_pool() as sounds:
        resources = Resources(WorkerPool(), encoders, sounds, Metrics(), LOOPBACK)
        output = Output(resources, lambda: None, mark=mark)
        ref = pictures.take(grey(), COLOUR)
        if ref is None:
            raise ValueError("no room")
        if dubbed:
            pictures.ring.dubbed(pictures.slot(ref)).y[:] = 120
            pictures.ring.dubbed(pictures.slot(ref)).u[:] = 128
            pictures.ring.dubbed(pictures.slot(ref)).v[:] = 128
        subscription = output.video.subscribe()
        leave = LeaveVideo(ref, 0, 0, dubbed, "dubbed" if dubbed else "source", dubbed, {}, None)
        output.picture(leave, pictures, Passage(time.monotonic_ns()))
        await asyncio.wait_for(subscription.get(), 10)
        image = pictures.picture(ref, dubbed=dubbed).copy()
        pictures.let_go(ref)
        await output.close()
        return image


@pytest.mark.parametrize("dubbed", [True, False])
def test_the_mark_is_on_every_picture_that_leaves_if_it_was_asked_for(dubbed: bool) -> None:
    async def scene() -> None:
        pictures = Pictures(320, 240, 2)
        plain, marked = grey(), grey()
        stamp(marked)
        try:
            assert np.array_equal((await sent("none", pictures, dubbed=dubbed)).y, plain.y)
            assert np.array_equal((await sent("visible", pictures, dubbed=dubbed)).y, marked.y)
        finally:
            pictures.close()

    run(scene())


def test_a_frame_was_heard_as_its_sound_was_placed_when_the_worker_got_it() -> None:
    given, never_given = Passage(0), Passage(0)
    given.zero_heard_ns = 1_000_000_000
    for passage in (given, never_given):  # meanwhile the sound has moved by 5 ms
        passage.heard(1_005_000_000, 48_000)
    assert (given.heard_ns, never_given.heard_ns) == (2_000_000_000, 2_005_000_000)
