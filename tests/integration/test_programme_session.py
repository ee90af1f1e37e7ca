"""A whole session on a camera by RTSP, another one beside it: the camera goes, returns, and hurts nobody."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import MediaError
from streaming.rtc.rendition import audio_pool, video_pool
from streaming.server.metrics import Metrics
from streaming.session import LiveSession, Resources
from streaming.types import Event, SessionOptions
from streaming.worker.pool import WorkerPool
from tests.integration.test_programme_out import read
from tests.support.data import model_file
from tests.support.live_worker import options
from tests.support.programme_feed import RATE, until, write_feed
from tests.support.rtc_peers import LOOPBACK
from tests.support.rtsp_server import RtspServer, Troubles, rtsp


def frames(session: LiveSession) -> int:
    counts: Any = session.snapshot()["frames"]
    return sum(count for result, count in counts.items() if result not in {"late", "dropped"})


class Show:
    """A session on a camera, and what it told; a session on a file beside it."""

    def __init__(self, folder: Path, resources: Resources, camera: RtspServer, url: str) -> None:
        self.camera, self.events, self.states = camera, list[Event](), list[Event]()
        self.one = LiveSession("one", _with(folder, url), resources)
        self.beside = LiveSession("two", _with(folder, "feed.ts"), resources)
        self.watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        self.events += [event async for event in self._told()]

    async def _told(self) -> AsyncIterator[Event]:
        async for event in self.one.events():
            if "programme" in event.data:
                self.states.append(event)
            yield event

    async def goes_and_returns(self) -> None:
        """The camera falls silent, comes back, and then does not let anyone in."""
        await self.beside.start()
        await self.one.start()
        await self.one.add_output("one.mkv")
        await until(lambda: frames(self.one) > 2 * RATE, 30)
        self.camera.troubles.stops_after_s = 0.0
        before, began_s = frames(self.beside), time.monotonic()
        await until(lambda: len(self.states) == 1)
        self.camera.troubles = Troubles()
        await until(lambda: len(self.states) == 2)
        took_s = time.monotonic() - began_s
        assert took_s < 8
        assert frames(self.beside) - before > 0.7 * RATE * took_s
        seen = frames(self.one)
        await until(lambda: frames(self.one) > seen + 10)
        self.camera.troubles.leaves_after_s, self.camera.troubles.silent_at = 0.0, "DESCRIBE"
        await until(lambda: len(self.states) == 3)
        closing_s = time.monotonic()
        await self.one.close("enough")
        assert time.monotonic() - closing_s < 8

    async def close(self) -> None:
        await self.one.close("over")
        await self.beside.close("over")
        await self.watching


def test_a_camera_that_goes_and_returns_hurts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_file("face_landmarker")
    monkeypatch.setattr("streaming.media.opening.READ_S", 1.0)
    options(tmp_path)
    camera = RtspServer(write_feed(tmp_path / "feed.ts", 8))

    async def whole() -> list[Event]:
        async with asyncio.timeout(150), rtsp(camera) as url, WorkerPool() as pool:
            resources = Resources(
                *(pool, video_pool(1), audio_pool(), Metrics(), LOOPBACK),
                programme_hosts=("127.0.0.1",),
                programme_folders=(tmp_path,),
                output_folder=tmp_path,
            )
            show = Show(tmp_path, resources, camera, url)
            try:
                with pytest.raises(MediaError, match="may not ask"):
                    await LiveSession("no", _with(tmp_path, "rtsp://10.0.0.1/x"), resources).start()
                await show.goes_and_returns()
            finally:
                await show.close()
                resources.video_pool.shutdown()
                resources.audio_pool.shutdown()
            return show.states

    states = asyncio.run(whole())
    assert [event.data["programme"] for event in states] == ["away", "back", "away"]
    assert "127.0.0.1" in str(states[0].data["message"])
    assert "/live" not in str(states[0].data["message"])
    found = read(tmp_path / "one.mkv")
    assert None not in found.numbers
    assert len(found.numbers) > 2 * RATE
    offsets_ms = [offset for offset in found.offsets_ms() if abs(offset) < 400]
    assert offsets_ms
    assert all(abs(offset) <= 40 for offset in offsets_ms)


def _with(folder: Path, programme: str) -> SessionOptions:
    return SessionOptions(folder / "toy.actor", programme=programme, override_consent=True)
