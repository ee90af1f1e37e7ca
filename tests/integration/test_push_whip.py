"""A session pushed by WHIP to our own server: its endpoint, its tokens, its receiving side."""

import asyncio
from pathlib import Path

import numpy as np

from engine.image.yuv import I420, Colour
from streaming.rtc.publisher import Publisher, PublishLimits, answer_publisher
from streaming.rtc.rendition import AudioRendition, VideoRendition, audio_pool, video_pool
from streaming.server.config import Access, ServerConfig
from streaming.server.metrics import Metrics
from streaming.session.outputs import Outputs
from streaming.session.resources import Resources
from streaming.types import Answer, Event, SessionOptions
from streaming.worker.pool import WorkerPool
from tests.support.live_sessions import MemorySession, Running, scene
from tests.support.rtc_peers import LOOPBACK, until
from tests.support.rtc_publishing import Inbox

BT709 = Colour("bt709", full_range=False)


class Receiving(MemorySession):
    """Takes what is published, for real."""

    def __init__(self, name: str, options: SessionOptions) -> None:
        super().__init__(name, options)
        self.inbox = Inbox()
        self.publisher: Publisher | None = None

    async def publish(self, sdp: str) -> Answer:
        limits = PublishLimits(peer=LOOPBACK)
        self.publisher, answer = await answer_publisher(
            sdp, self.inbox.video, self.inbox.sounds.append, limits
        )
        return answer

    async def end(self, resource: str) -> bool:
        if self.publisher is None or self.publisher.resource != resource:
            return False
        await self.publisher.close()
        return True


def test_our_own_server_takes_a_session_and_is_told_its_end(tmp_path: Path) -> None:
    made: list[Receiving] = []
    events: list[Event] = []

    def make(name: str, options: SessionOptions) -> Receiving:
        made.append(Receiving(name, options))
        return made[-1]

    async def play(video: VideoRendition, audio: AudioRendition) -> None:
        image, voice = I420.blank(256, 144), (9000 * np.sin(np.arange(960) / 9)).astype(np.int16)
        for index in range(10_000):
            image.y[...] = 32 + 3 * (index % 64)
            await video.push(image, BT709, index * 1920)
            for half in range(2):
                await audio.push(voice, index * 1920 + half * 960)
            await asyncio.sleep(0.03)

    async def scenario(server: Running) -> None:
        options = server.server.config.sessions.options(tmp_path / "actors" / "ann.actor")
        await server.server.sessions.create(options, "far")
        whip, gate = f"{server.url}/whip/far", server.server.gate
        with video_pool(1) as pictures, audio_pool() as sounds:
            video, audio = VideoRendition(pictures), AudioRendition(sounds)
            resources = Resources(
                WorkerPool(), pictures, sounds, Metrics(), LOOPBACK, output_hosts=("127.0.0.1",)
            )
            outputs = Outputs(video, audio, resources, events.append)
            playing = asyncio.create_task(play(video, audio))
            outputs.add(whip, gate.mint(["view"], "far", 60)[0])
            good = outputs.add(whip, gate.mint(["publish"], "far", 60)[0])
            inbox = made[0].inbox
            await until(lambda: len(inbox.pictures) > 20 and len(inbox.sounds) > 40)
            assert "status 403" in str(events[0].data["message"])
            assert await outputs.end(good)
            publisher = made[0].publisher
            assert publisher is not None
            await until(publisher.closed.is_set)
            assert publisher.reason == "closed"
            await outputs.close()
            playing.cancel()
            await asyncio.wait({playing})
        steps = np.diff([round((one.luma - 32) / 3) for one in inbox.pictures]) % 64
        media_s = np.diff([one.captured_ns for one in inbox.pictures]) / 1e9
        assert np.abs(media_s - 0.04 * steps).max() < 0.02
        assert all(np.abs(piece.samples).max() > 3000 for piece in inbox.sounds[-10:])

    scene(tmp_path, scenario, ServerConfig(access=Access("s" * 32)), make=make)
