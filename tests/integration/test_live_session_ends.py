"""What a session held is free when it is closed, not when Python collects its garbage."""

import asyncio
import gc
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from aiortc import MediaStreamTrack

from clients.peer import EncodedSound, EncodedVideo, Pace
from engine.media import ColourTags, VideoFrame, VideoInfo, open_writer
from streaming.rtc.encoder import AudioEncoder, VideoEncoder
from streaming.rtc.opus import OpusDecoder
from streaming.rtc.peer import close_peer, open_peer
from streaming.rtc.rendition import audio_pool, video_pool
from streaming.rtc.video_decoder import THREADS, decode_pool
from streaming.server.metrics import Metrics
from streaming.session import LiveSession, Resources
from streaming.types import AudioIn, SessionOptions
from streaming.worker.pool import WorkerPool
from tests.support.data import model_file
from tests.support.live_worker import BT709, HEIGHT, WIDTH, face_frame, options
from tests.support.rtc_peers import LOOPBACK, accept, offering, run, until

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
FRAMES, ROUNDS = 25, 2
VOICE = (8000 * np.sin(2 * np.pi * 300 * np.arange(48_000) / 48_000)).astype(np.int16)


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    threads: int
    descriptors: int
    tasks: int
    contexts: Counter[str]
    opus_decoders: int


def held() -> Held:
    kept = gc.get_objects()
    # By the type itself: some libraries' objects warn when they are asked for their class.
    contexts = [one for one in kept if issubclass(type(one), av.CodecContext)]
    return Held(
        len(os.listdir("/proc/self/task")),
        len(os.listdir("/proc/self/fd")),
        len(asyncio.all_tasks()),
        Counter(one.name for one in contexts if one.is_open),
        sum(issubclass(type(one), OpusDecoder) and one.is_open for one in kept),
    )


@contextmanager
def nothing_collected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def fill(pool: Executor, threads: int) -> None:
    """Let a pool start all its threads: it does when they are needed, and keeps them."""
    together = threading.Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(together.wait)
    together.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a film, and the toy actor."""
    model_file("face_landmarker")
    path = tmp_path_factory.mktemp("live")
    options(path)
    tags = ColourTags(colour_range=1, matrix=1, primaries=1, transfer=1)
    info = VideoInfo(WIDTH, HEIGHT, Fraction(1, 25), Fraction(25), BT709, tags)
    with open_writer(path / "film.mp4", info, audio=None) as writer:
        for index in range(FRAMES):
            writer.write(VideoFrame(face_frame(index), index))
    return path


@asynccontextmanager
async def resources(folder: Path) -> AsyncIterator[Resources]:
    with ThreadPoolExecutor(2) as others, video_pool(1) as pictures, audio_pool() as sounds:
        asyncio.get_running_loop().set_default_executor(others)
        for pool, threads in ((others, 2), (pictures, 1), (sounds, 1), (decode_pool(), THREADS)):
            fill(pool, threads)
        async with WorkerPool() as workers:
            yield Resources(
                workers,
                pictures,
                sounds,
                Metrics(),
                peers=LOOPBACK,
                programme_folders=(folder,),
                output_folder=folder,
            )


async def watched(session: LiveSession) -> None:
    """Somebody watches and listens for a while, and leaves without a word."""
    seen: Counter[str] = Counter()
    peer, tasks = open_peer(LOOPBACK), []

    async def drain(track: MediaStreamTrack) -> None:
        while True:
            await track.recv()
            seen[track.kind] += 1

    peer.on("track", lambda track: tasks.append(asyncio.ensure_future(drain(track))))
    for kind in ("video", "audio"):
        peer.addTransceiver(kind, direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    answer = await session.view(peer.localDescription.sdp)
    await accept(peer, answer.sdp)
    await until(lambda: seen["video"] > 5 and seen["audio"] > 5, 60)
    await close_peer(peer)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def published(session: LiveSession, pictures: list[bytes], sounds: list[bytes]) -> None:
    """Somebody publishes to a session that is watched, and both leave without a word."""
    pace = Pace()
    peer = await offering(
        EncodedVideo(pictures, Fraction(25), pace), EncodedSound(sounds, pace), codec="H264"
    )
    await accept(peer, (await session.publish(peer.localDescription.sdp)).sdp)
    await watched(session)
    await close_peer(peer)


def encoded() -> tuple[list[bytes], list[bytes]]:
    """A second of a face, and of a voice."""
    video, audio = VideoEncoder(), AudioEncoder()
    pictures = [
        video.encode(face_frame(index), BT709, 1920 * index, target_bps=2_000_000, keyframe=not index).data
        for index in range(FRAMES)
    ]
    sounds = [audio.encode(VOICE[at : at + 960], at).data for at in range(0, len(VOICE), 960)]
    return pictures, sounds


def test_a_session_that_is_closed_holds_nothing(folder: Path) -> None:
    base = SessionOptions(folder / "toy.actor", override_consent=True, idle="closed")

    async def round_of_sessions(
        shared: Resources, number: int, made: tuple[list[bytes], list[bytes]]
    ) -> None:
        session = LiveSession("one", replace(base, programme="film.mp4"), shared)
        await session.start()
        await session.dub(AudioIn(VOICE, 48_000), 1)
        await session.add_output(f"dub{number}.mkv")
        await watched(session)
        await session.close("the round is over")
        session = LiveSession("two", replace(base, voice="publisher"), shared)
        await session.start()
        await published(session, *made)
        await session.close("the round is over")

    async def whole() -> None:
        made = encoded()
        async with resources(folder) as shared:
            await round_of_sessions(shared, 0, made)
            await asyncio.sleep(0.1)
            with nothing_collected():
                before = held()
                for number in range(ROUNDS):
                    await round_of_sessions(shared, 1 + number, made)
                with suppress(AssertionError):  # the spare worker is begun anew meanwhile
                    await until(lambda: held() == before)
                assert held() == before

    run(whole(), within_s=200)
