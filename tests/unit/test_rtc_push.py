"""Pushing by WHIP, to a server that is our own receiving side behind plain HTTP, on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import numpy as np
import pytest

from engine.errors import OutputError
from engine.image.yuv import I420, Colour
from streaming.rtc import push
from streaming.rtc.push import LONGEST_WAIT_S, PROVEN_S, Backoff, Endpoint, WhipPush
from streaming.rtc.rendition import AudioRendition, VideoRendition, audio_pool, video_pool
from streaming.types import NS_PER_S
from tests.support.rtc_peers import LOOPBACK, run, until
from tests.support.rtc_publishing import Inbox
from tests.support.whip_server import KEY, far

BT709 = Colour("bt709", full_range=False)
SIZE = (256, 144)
TURN = 25  # frames between a flash with a beep and the next
FLASH = 3


class Near:
    """Renditions with a picture that flashes as a beep is heard, and what went wrong."""

    def __init__(self, video: VideoRendition, audio: AudioRendition) -> None:
        self.video, self.audio = video, audio
        self.troubles: list[OutputError] = []

    async def play(self) -> None:
        """Until cancelled, at 25 frames per second."""
        loop, index = asyncio.get_running_loop(), 0
        began_s = loop.time()
        beep = (9000 * np.sin(2 * np.pi * 800 * np.arange(960) / 48_000)).astype(np.int16)
        image = I420.blank(*SIZE)
        while True:
            loud = index % TURN < FLASH
            image.y[...] = 200 if loud else 40
            await self.video.push(image, BT709, index * 1920)
            for half in range(2):
                await self.audio.push(beep if loud else beep * 0, index * 1920 + half * 960)
            index += 1
            await asyncio.sleep(max(0.0, began_s + index / 25 - loop.time()))

    def to(self, endpoint: Endpoint) -> WhipPush:
        return WhipPush(endpoint, self.video, self.audio, self.troubles.append, peers=LOOPBACK)


@asynccontextmanager
async def near() -> AsyncIterator[Near]:
    with video_pool(1) as pictures, audio_pool() as sounds:
        one = Near(VideoRendition(pictures), AudioRendition(sounds))
        playing = asyncio.create_task(one.play())
        try:
            yield one
        finally:
            playing.cancel()
            await asyncio.wait({playing})
            assert one.video.viewers == one.audio.viewers == 0


def onsets_s(inbox: Inbox) -> tuple[list[float], list[float]]:
    """When flashes and beeps began, by their capture times."""
    seen = inbox.pictures
    flashes = [b.captured_ns for a, b in pairwise(seen) if a.luma < 100 < b.luma]
    beeps, quiet = [], False
    for piece in inbox.sounds:
        loud = bool(np.abs(piece.samples.astype(int)).max() > 2000)
        if loud and quiet and piece.captured_ns is not None:
            first = int(np.argmax(np.abs(piece.samples.astype(int)) > 1000))
            beeps.append(piece.captured_ns + first * NS_PER_S // piece.rate_hz)
        quiet = not loud
    return [at / NS_PER_S for at in flashes], [at / NS_PER_S for at in beeps]


def test_picture_and_sound_arrive_together_and_the_end_is_told() -> None:
    async def scene() -> None:
        async with far() as there, near() as here:
            push_ = here.to(Endpoint(there.url, "there", "the-token"))
            push_.start()
            await until(lambda: min(map(len, onsets_s(there.inbox))) >= 3, 40)
            states = [push_.state]
            stats = push_.stats()
            assert stats is not None
            assert stats.video is not None
            assert stats.audio is not None
            assert stats.video.frames > 50
            assert stats.audio.frames > 100
            await push_.close()
            assert [*states, push_.state] == ["live", "ended"]
            await until(there.publishers[0].closed.is_set)
            assert there.deleted == [there.publishers[0].resource]
            assert (there.tokens, push_.connects) == (["Bearer the-token"], 1)
            assert here.troubles == []
        pictures = there.inbox.pictures
        assert {one.size for one in pictures} == {SIZE}
        gaps_s = np.diff([one.captured_ns / NS_PER_S for one in pictures])
        assert abs(np.median(gaps_s) - 0.04) < 0.002
        flashes, beeps = onsets_s(there.inbox)
        apart = [min(abs(flash - beep) for flash in flashes) for beep in beeps[1:3]]
        assert np.median(apart) < 0.03

    run(scene())


def test_a_connection_that_breaks_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "FIRST_WAIT_S", 0.05)

    async def scene() -> None:
        async with far() as there, near() as here:
            there.refuse = [(503, {"Retry-After": "0"}), (503, {})]
            push_ = here.to(Endpoint(there.url, "there"))
            push_.start()
            await until(lambda: len(there.inbox.pictures) > 10)
            await there.publishers[0].close()
            count = len(there.inbox.pictures)
            await until(lambda: len(there.inbox.pictures) > count + 10, 40)
            assert push_.connects == 2
            assert there.tokens == [None] * 4
            await push_.close()
            said = [str(error) for error in here.troubles]
            assert said == ["there: refused the offer (status 503)", "there: the connection ended"]

    run(scene())


def test_a_redirect_is_followed_only_to_where_we_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "FIRST_WAIT_S", 0.05)

    async def scene() -> None:
        async with far() as there, near() as here:
            there.refuse = [
                (307, {"Location": "http://127.0.0.2/elsewhere"}),
                (307, {"Location": f"/whip/{KEY}"}),
            ]
            may_ask = lambda url: url.startswith("http://127.0.0.1:")  # noqa: E731
            push_ = here.to(Endpoint(there.url, "there", "t", may_ask))
            push_.start()
            await until(lambda: push_.state == "live")
            await push_.close()
            assert [str(error) for error in here.troubles] == ["there: refused the offer (status 307)"]
            assert len(there.tokens) == 3

    run(scene())


@pytest.mark.parametrize("answer", ["", "v=0", "x" * 70_000])
def test_an_answer_that_is_none_is_told_without_the_address(answer: str) -> None:
    async def scene() -> None:
        async with far() as there, near() as here:
            there.answer = answer
            push_ = here.to(Endpoint(there.url, "there", "the-token"))
            push_.start()
            await until(lambda: bool(here.troubles))
            assert push_.state == "waiting"
            await push_.close()
            assert len(there.deleted) == (0 if len(answer) > 65_536 else 1)
            assert KEY not in f"{here.troubles}{push_._endpoint!r}"
            assert "the-token" not in f"{here.troubles}{push_._endpoint!r}"

    run(scene())


@pytest.mark.parametrize("url", [f"http://127.0.0.1:1/{KEY}", f"http://[::1/{KEY}", f"http:///{KEY}"])
def test_a_server_that_is_not_there_is_told_without_the_address(url: str) -> None:
    async def scene() -> None:
        async with near() as here:
            push_ = here.to(Endpoint(url, "there"))
            push_.start()
            await until(lambda: bool(here.troubles))
            await push_.close()
            assert "cannot be reached" in str(here.troubles[0])
            assert KEY not in str(here.troubles[0])

    run(scene())


def test_waits_double_up_to_half_a_minute_and_begin_anew() -> None:
    backoff = Backoff()
    assert [backoff.after(0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.after(PROVEN_S) == 0.5
    assert backoff.after(0, 20) == 20
    assert backoff.after(0, 1e9) == LONGEST_WAIT_S
