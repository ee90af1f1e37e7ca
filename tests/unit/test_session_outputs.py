"""Outputs of a session: renditions that are fed by the test, real files, a real server by WHIP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from engine.errors import CapacityError, InputError, OutputError
from engine.image.yuv import I420, Colour
from engine.media import open_video, read_dub_audio
from streaming.rtc.rendition import AudioRendition, VideoRendition, audio_pool, video_pool
from streaming.server.metrics import Metrics
from streaming.session.outputs import MOST_ENDED, MOST_RUNNING, Outputs
from streaming.session.resources import Resources
from streaming.types import Event
from streaming.worker.pool import WorkerPool
from tests.support.rtc_peers import LOOPBACK, run, until
from tests.support.whip_server import KEY, far

BT709 = Colour("bt709", full_range=False)
FRAMES = 25


class Show:
    """Outputs, what is fed to them, and what they told."""

    def __init__(self, resources: Resources, seal: Callable[[Path], None] | None = None) -> None:
        self.video, self.audio = VideoRendition(resources.video_pool), AudioRendition(resources.audio_pool)
        self.events: list[Event] = []
        self.outputs = Outputs(self.video, self.audio, resources, self.events.append, seal)
        self._index = 0

    async def play(self, until_: Callable[[], bool] = lambda: False, frames: int = 500) -> None:
        """Frames at 100 per second with their sound, until a condition or so many."""
        voice = (5000 * np.sin(np.arange(960) / 9)).astype(np.int16)
        image = I420.blank(128, 96)
        for _ in range(frames):
            if until_():
                return
            position, self._index = self._index * 1920, self._index + 1
            image.y[...] = 40 + self._index % 160
            await self.video.push(image, BT709, position)
            for half in range(2):
                await self.audio.push(voice, position + 960 * half)
                self.outputs.sound(voice, position + 960 * half)
            await asyncio.sleep(0.01)

    def one(self, name: str) -> dict[str, Any]:
        return next(shown for shown in self.outputs.shown() if shown["id"] == name)


@asynccontextmanager
async def show(
    folder: Path | None = None,
    hosts: tuple[str, ...] = (),
    seal: Callable[[Path], None] | None = None,
) -> AsyncIterator[Show]:
    with video_pool(1) as pictures, audio_pool() as sounds:
        resources = Resources(
            WorkerPool(), pictures, sounds, Metrics(), LOOPBACK, output_folder=folder, output_hosts=hosts
        )
        one = Show(resources, seal)
        try:
            yield one
        finally:
            await one.outputs.close()
            assert len(one.outputs) == 0
            assert one.video.viewers == one.audio.viewers == 0
            assert resources.writing == set()


def test_a_finished_file_may_be_signed_and_stays_if_that_fails(tmp_path: Path) -> None:
    sealed: list[bool] = []

    def seal(path: Path) -> None:
        sealed.append(path.stat().st_size > 0)
        if path.name == "refused.mp4":
            raise InputError("nobody signs that")

    async def scene() -> None:
        async with show(tmp_path, seal=seal) as here:
            for name in ("kept.mp4", "refused.mp4"):
                made = here.outputs.add(name)
                await here.play(frames=FRAMES)
                await here.outputs.end(made)
            assert [event.data["message"] for event in here.events] == [
                "an output is in trouble: nobody signs that"
            ]

    run(scene())
    assert sealed == [True, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.mp4", "refused.mp4"]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_file_is_whole_once_its_output_is_ended(tmp_path: Path, name: str) -> None:
    async def scene() -> None:
        async with show(tmp_path) as here:
            made = here.outputs.add(name)
            assert len(here.outputs) == 1
            await here.play(frames=FRAMES)
            await until(lambda: here.one(made)["packets"] > FRAMES)
            shown = here.one(made)
            assert (shown["state"], shown["kind"], shown["to"], shown["dropped"]) == ("live", "file", name, 0)
            assert not (tmp_path / name).exists()
            assert await here.outputs.end(made)
            assert not await here.outputs.end(made)
            assert (here.outputs.shown(), here.events) == ([], [])
            with pytest.raises(OutputError, match="already"):
                here.outputs.add(name)

    run(scene())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with open_video(tmp_path / name) as reader:
        assert sum(1 for _ in reader) == FRAMES
    assert abs(read_dub_audio(tmp_path / name).duration_s - FRAMES / 25) < 0.06
    if not name.endswith(".ts"):  # has no place for it
        with av.open(str(tmp_path / name)) as container:
            said = {key.lower(): text for key, text in container.metadata.items()}
        assert said["comment"].startswith("synthetic: ")


def test_two_outputs_never_write_the_same_file(tmp_path: Path) -> None:
    async def scene() -> None:
        async with show(tmp_path) as here:
            here.outputs.add("a.mkv")
            with pytest.raises(OutputError, match="being written"):
                here.outputs.add("a.mkv")
            assert len(here.outputs) == 1
            await here.play(frames=5)

    run(scene())


def test_one_that_fails_is_told_and_listed_and_harms_no_other(tmp_path: Path) -> None:
    async def scene() -> None:
        async with show(tmp_path, ("127.0.0.1:1",)) as here:
            good = here.outputs.add("a.mkv")
            bad = here.outputs.add("rtmp://127.0.0.1:1/live/a-secret-key")
            await here.play(lambda: bool(here.events))
            assert here.one(bad)["state"] == "failed"
            assert (here.one(bad)["kind"], here.one(bad)["to"]) == ("rtmp", "rtmp://127.0.0.1:1")
            assert here.events[0].kind == "error"
            assert here.events[0].data["output"] == bad
            assert "a-secret-key" not in f"{here.events}{here.outputs.shown()}"
            before = here.one(good)["packets"]
            await here.play(lambda: here.one(good)["packets"] > before + 10)
            assert (here.one(good)["state"], len(here.outputs)) == ("live", 1)
            assert await here.outputs.end(bad)

    run(scene())
    with open_video(tmp_path / "a.mkv") as reader:
        assert sum(1 for _ in reader) > 5


def test_another_server_takes_the_session_by_whip() -> None:
    async def scene() -> None:
        async with far() as there, show(hosts=("127.0.0.1",)) as here:
            made = here.outputs.add(there.url, "the-token")
            inbox = there.inbox
            await here.play(lambda: len(inbox.pictures) > 10 and here.one(made)["state"] == "live")
            assert len(inbox.sounds) > 10
            shown = here.one(made)
            assert (shown["state"], shown["connects"], shown["error"]) == ("live", 1, None)
            assert shown["video"]["frames"] > 10
            assert KEY not in str(shown)
            assert "the-token" not in str(shown)
            assert await here.outputs.end(made)
            assert there.deleted == [there.publishers[0].resource]
            assert there.tokens == ["Bearer the-token"]

    run(scene())


def test_what_may_not_be_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with show(tmp_path) as here:
            with pytest.raises(InputError, match="token"):
                here.outputs.add("a.mkv", "the-token")
            with pytest.raises(OutputError, match="may not send"):
                here.outputs.add("http://127.0.0.1/whip/a")
            for index in range(MOST_RUNNING):
                here.outputs.add(f"{index}.mkv")
            with pytest.raises(CapacityError):
                here.outputs.add("a.mkv")

    run(scene())


def test_only_the_latest_failures_are_remembered(tmp_path: Path) -> None:
    async def scene() -> None:
        async with show(tmp_path / "not-there") as here:
            for index in range(MOST_ENDED + 3):
                here.outputs.add(f"{index}.mkv")
                await here.play(lambda: len(here.outputs) == 0)
            assert len(here.outputs.shown()) == MOST_ENDED
            assert len(here.events) == MOST_ENDED + 3
            assert str(tmp_path) not in f"{here.events}{here.outputs.shown()}"

    run(scene())
