"""A session sent by RTMP to ffmpeg: what it writes has both tracks, in step, and every picture readable."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest

from engine.errors import OutputError
from engine.image.yuv import Colour
from engine.media import open_video
from streaming.rtc.rendition import AudioRendition, VideoRendition, audio_pool, video_pool
from streaming.server.metrics import Metrics
from streaming.session.outputs import Outputs
from streaming.session.resources import Resources
from streaming.types import Event
from streaming.worker.pool import WorkerPool
from tests.support.programme_feed import RATE, beeps, flashes, number_of, picture, until
from tests.support.programme_servers import free_port, needs_ffmpeg, rtmp_taking
from tests.support.rtc_peers import LOOPBACK

pytestmark = needs_ffmpeg
BT709 = Colour("bt709", full_range=False)
SECONDS = 3
START_S = 4  # of the session, before the output began


@dataclass
class Written:
    """What is in a file: pictures' numbers and times, and when flashes and beeps begin, in seconds."""

    numbers: list[int | None] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    flashes_s: list[float] = field(default_factory=list)
    beeps_s: list[float] = field(default_factory=list)

    def offsets_ms(self) -> list[float]:
        beeps_s = np.array(self.beeps_s)
        later = (at for at in self.flashes_s if at > 0.5)  # the first beep began before the file
        return [float(1000 * (at - beeps_s[np.abs(beeps_s - at).argmin()])) for at in later]


def read(path: Path) -> Written:
    found, quiet_s = Written(), -1.0
    with open_video(path) as reader:
        for frame in reader:
            at_s = float(frame.pts * reader.info.time_base)
            found.numbers.append(number_of(frame.image.y))
            found.times_s.append(at_s)
            if flashes(frame.image.y):
                found.flashes_s.append(at_s)
    with av.open(str(path)) as container:
        for sound in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(sound.to_ndarray()[0]) > 0.1)
            if loud.size and sound.time is not None:
                at_s = sound.time + int(loud[0]) / sound.sample_rate
                if at_s > quiet_s:
                    found.beeps_s.append(at_s)
                quiet_s = at_s + 0.5
    return found


async def play(video: VideoRendition, audio: AudioRendition, outputs: Outputs) -> None:
    voice = (beeps(SECONDS + 1)[0] * 32_000).astype(np.int16)
    zero_s = time.monotonic()
    for index in range(SECONDS * RATE):
        position = START_S * 48_000 + index * 1920
        await video.push(picture(index), BT709, position)
        for half in range(2):
            at = index * 1920 + 960 * half
            await audio.push(voice[at : at + 960], START_S * 48_000 + at)
            outputs.sound(voice[at : at + 960], START_S * 48_000 + at)
        await asyncio.sleep(max(0.0, zero_s + index / RATE - time.monotonic()))


def test_what_arrives_by_rtmp_is_whole_and_in_step(tmp_path: Path) -> None:
    out, port, events = tmp_path / "taken.mkv", free_port(), list[Event]()

    async def scene() -> dict[str, object]:
        with video_pool(1) as pictures, audio_pool() as sounds:
            resources = Resources(
                WorkerPool(), pictures, sounds, Metrics(), LOOPBACK, output_hosts=("127.0.0.1",)
            )
            video, audio = VideoRendition(pictures), AudioRendition(sounds)
            outputs = Outputs(video, audio, resources, events.append)
            outputs.add(f"rtmp://127.0.0.1:{port}/live/key")
            with pytest.raises(OutputError, match="may not send"):
                outputs.add("rtmp://127.0.0.2/live/key")
            await play(video, audio, outputs)
            shown = outputs.shown()[0]
            await outputs.close()
            video.close()
            audio.close()
            return shown

    with rtmp_taking(out, port) as server:
        shown = asyncio.run(scene())
        assert server.wait(10) == 0
    assert (shown["state"], shown["dropped"], events) == ("live", 0, [])
    found = read(out)
    first = found.numbers[0]
    assert first is not None
    assert first < RATE
    assert found.numbers == list(range(first, SECONDS * RATE))
    assert len(found.flashes_s) >= SECONDS - 1
    assert len(found.beeps_s) >= SECONDS - 1
    assert len(found.offsets_ms()) >= SECONDS - 1
    assert all(abs(offset) <= 40 for offset in found.offsets_ms())
    assert np.abs(np.diff(found.times_s) - 1 / RATE).max() < 0.002


def test_a_server_that_goes_away_ends_that_output_with_the_reason(tmp_path: Path) -> None:
    port, events = free_port(), list[Event]()

    async def scene() -> list[dict[str, object]]:
        with video_pool(1) as pictures, audio_pool() as sounds:
            resources = Resources(
                *(WorkerPool(), pictures, sounds, Metrics(), LOOPBACK),
                output_hosts=("127.0.0.1",),
                output_folder=tmp_path,
            )
            video, audio = VideoRendition(pictures), AudioRendition(sounds)
            outputs = Outputs(video, audio, resources, events.append)
            outputs.add("beside.mkv")
            with rtmp_taking(tmp_path / "taken.mkv", port):
                outputs.add(f"rtmp://127.0.0.1:{port}/live/key")
                playing = asyncio.create_task(play(video, audio, outputs))
                await until(lambda: outputs.shown()[1]["state"] == "live")
            await until(lambda: bool(events))
            await playing
            shown = outputs.shown()
            await outputs.close()
            video.close()
            audio.close()
            return shown

    beside, gone = asyncio.run(scene())
    assert (beside["state"], beside["dropped"]) == ("live", 0)
    assert gone["state"] == "failed"
    assert f"rtmp://127.0.0.1:{port}: cannot be sent to" in str(events[0].data["message"])
    assert "key" not in str(events[0].data["message"])
    assert read(tmp_path / "beside.mkv").numbers == list(range(SECONDS * RATE))
