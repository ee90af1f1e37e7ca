"""Whole sessions: a real worker, real connections on loopback, a programme from a file or a publisher."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from engine.errors import CapacityError, InputError, MediaError, ProtocolError
from engine.media import ColourTags, VideoFrame, VideoInfo, open_video, open_writer, read_dub_audio
from streaming.rtc.peer import Peer, close_peer, open_peer
from streaming.rtc.rendition import audio_pool, video_pool
from streaming.server.metrics import Metrics
from streaming.session import LiveSession, Resources
from streaming.types import Answer, AudioIn, Event, SessionOptions
from streaming.worker.pool import WorkerPool
from tests.support.data import model_file
from tests.support.live_worker import BT709, HEIGHT, WIDTH, empty_frame, face_frame, options
from tests.support.rtc_peers import LOOPBACK, Steps, Tone, accept, offering, run, until

FRAMES = 50
VOICE = (8000 * np.sin(2 * np.pi * 300 * np.arange(48_000) / 48_000)).astype(np.int16)
Scene = Callable[["Stage"], Awaitable[None]]


@dataclass
class Viewer:
    """What a viewer got: arrival in s and media time in s of each piece, and how loud it is."""

    peer: Peer
    pictures: list[tuple[float, float, av.VideoFrame]] = field(default_factory=list)
    sounds: list[tuple[float, float, float]] = field(default_factory=list)

    async def drain(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame: Any = await track.recv()
                now_s, media_s = time.monotonic(), float(frame.pts * frame.time_base)
                if track.kind == "video":
                    self.pictures.append((now_s, media_s, frame))
                else:
                    self.sounds.append((now_s, media_s, float(np.abs(frame.to_ndarray()).max())))
        except MediaStreamError:
            return


@dataclass
class Stage:
    """A session in a test."""

    session: LiveSession
    events: list[Event]

    @asynccontextmanager
    async def viewer(self) -> AsyncIterator[Viewer]:
        peer = open_peer(LOOPBACK)
        viewer, tasks = Viewer(peer), []
        peer.on("track", lambda track: tasks.append(asyncio.ensure_future(viewer.drain(track))))
        for kind in ("video", "audio"):
            peer.addTransceiver(kind, direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        answer: Answer = await self.session.view(peer.localDescription.sdp)
        await accept(peer, answer.sdp)
        try:
            yield viewer
        finally:
            await self.session.end(answer.resource)
            await close_peer(peer)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def frames(self) -> dict[str, int]:
        counts: Any = self.session.snapshot()["frames"]
        return dict(counts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a film of somebody who is there but for a moment, and the toy actor."""
    model_file("face_landmarker")
    path = tmp_path_factory.mktemp("live")
    options(path)
    tags = ColourTags(colour_range=1, matrix=1, primaries=1, transfer=1)
    info = VideoInfo(WIDTH, HEIGHT, Fraction(1, 25), Fraction(25), BT709, tags)
    with open_writer(path / "film.mp4", info, audio=None) as writer:
        for index in range(FRAMES):
            writer.write(VideoFrame(empty_frame(index) if 30 <= index < 36 else face_frame(index), index))
    return path


def play(folder: Path, scene: Scene, **changes: Any) -> None:
    """Run a scene on a session that plays the film, unless `changes` say otherwise."""
    base = SessionOptions(folder / "toy.actor", programme="film.mp4", override_consent=True, idle="closed")

    async def whole() -> None:
        async with WorkerPool() as pool:
            resources = Resources(
                pool,
                video_pool(1),
                audio_pool(),
                Metrics(),
                peers=LOOPBACK,
                programme_folders=(folder,),
                output_folder=folder,
            )
            session = LiveSession("one", replace(base, **changes), resources)
            stage = Stage(session, [])
            watching = asyncio.ensure_future(_watch(session, stage.events.append))
            try:
                await session.start()
                await scene(stage)
            finally:
                await session.close("the scene is over")
                await watching
                resources.video_pool.shutdown()
                resources.audio_pool.shutdown()
            assert session.closed.is_set()
            assert session.peers == 0

    run(whole(), within_s=200)


async def _watch(session: LiveSession, take: Callable[[Event], None]) -> None:
    async for event in session.events():
        take(event)


def test_a_programme_is_dubbed_heard_and_written(folder: Path) -> None:
    out = folder / "dub.mkv"

    async def scene(stage: Stage) -> None:
        await stage.session.add_output(out.name)
        async with stage.viewer() as viewer:
            await until(lambda: len(viewer.pictures) > 10, 60)
            for start in range(0, len(VOICE), 4800):
                await stage.session.dub(AudioIn(VOICE[start : start + 4800], 48_000), 7)
            await stage.session.end_utterance(7)
            await until(lambda: sum(loud > 1000 for _, _, loud in viewer.sounds) > 20, 60)
            await until(lambda: stage.frames.get("dubbed", 0) > 5, 60)
            times = [media_s for _, media_s, _ in viewer.pictures]
            assert all(b > a for a, b in pairwise(times))
            assert np.allclose(np.diff([media_s for _, media_s, _ in viewer.sounds]), 0.02, atol=0.001)
        await until(lambda: any(event.kind == "latency" for event in stage.events), 20)

    play(folder, scene)
    with open_video(out) as reader:
        assert sum(1 for _ in reader) > 10
    assert read_dub_audio(out).duration_s > 0.5


def test_a_killed_worker_costs_the_mouth_and_nothing_else(folder: Path) -> None:
    async def scene(stage: Stage) -> None:
        async with stage.viewer() as viewer:
            await until(lambda: stage.frames.get("dubbed", 0) > 5, 60)
            before: Any = stage.session.snapshot()["worker_pid"]
            at_s, count = time.monotonic(), len(viewer.pictures)
            os.kill(before, signal.SIGKILL)
            await until(lambda: len(viewer.pictures) > count + 15, 30)
            arrivals = [at for at, _, _ in viewer.pictures if at > at_s - 0.2]
            assert np.diff(arrivals).max() < 1.5
            dubbed = stage.frames["dubbed"]
            await until(lambda: stage.session.snapshot()["worker_pid"] not in (None, before), 60)
            await until(lambda: stage.frames["dubbed"] > dubbed + 5, 60)
            sounds = [media_s for _, media_s, _ in viewer.sounds]
            assert np.allclose(np.diff(sounds), 0.02, atol=0.001)

    play(folder, scene)


def test_an_interruption_says_how_much_was_heard_and_then_it_is_silent(folder: Path) -> None:
    async def scene(stage: Stage) -> None:
        async with stage.viewer() as viewer:
            await until(lambda: len(viewer.sounds) > 5, 60)
            await stage.session.dub(AudioIn(np.tile(VOICE, 4), 48_000), 3)
            await until(lambda: sum(loud > 1000 for _, _, loud in viewer.sounds) > 10, 60)
            playback = await stage.session.interrupt()
            assert playback.utterance == 3
            assert 100 < playback.played_ms < 3500
            assert 3800 < playback.played_ms + playback.dropped_ms <= 4000
            await asyncio.sleep(1.5)
            assert [loud for _, _, loud in viewer.sounds[-20:] if loud > 500] == []

    play(folder, scene)


def test_a_publisher_brings_picture_and_voice(folder: Path) -> None:
    async def scene(stage: Stage) -> None:
        opened = stage.session.snapshot()["worker_pid"]
        publisher = await offering(Steps(320, 192), Tone(), codec="VP8")
        answer = await stage.session.publish(publisher.localDescription.sdp)
        await accept(publisher, answer.sdp)
        with pytest.raises(ProtocolError, match="comes with its picture"):
            await stage.session.dub(AudioIn(VOICE, 48_000), None)
        async with stage.viewer() as viewer:
            await until(lambda: len(viewer.pictures) > 15, 60)
            assert (viewer.pictures[-1][2].width, viewer.pictures[-1][2].height) == (320, 192)
            await until(lambda: sum(loud > 1000 for _, _, loud in viewer.sounds) > 10, 60)
            await until(lambda: stage.session.snapshot()["size"] == (320, 192), 20)
            assert stage.session.snapshot()["worker_pid"] == opened
            second = await offering(Steps(320, 192), codec="VP8")
            with pytest.raises(CapacityError, match="already"):
                await stage.session.publish(second.localDescription.sdp)
            await close_peer(second)
        assert await stage.session.end(answer.resource)
        assert not await stage.session.end(answer.resource)
        await close_peer(publisher)

    play(folder, scene, programme=None, voice="publisher")


def test_what_cannot_be_is_refused(folder: Path) -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(CapacityError, match="programme"):
            await stage.session.publish("v=0")

    play(folder, scene)
    with pytest.raises(MediaError, match="no programme"):
        play(folder, scene, programme="../film.mp4")
    with pytest.raises(InputError):
        play(folder, scene, actor=folder / "film.mp4")
    with pytest.raises(InputError, match="shorter time"):
        play(folder, scene, original_delay_ms=60_000)
