import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.errors import BackendUnavailable, LivedubError, MediaError
from engine.media import read_dub_audio
from streaming.media.address import Address
from streaming.media.playout import ArrivalClock
from streaming.media.source import ProgrammeSource
from streaming.types import MEDIA_RATE_HZ, NS_PER_S, AudioIn, VideoIn
from tests.support.media import ClipSpec, tone, write_clip

MS = NS_PER_S // 1000


def test_network_jitter_is_taken_out_of_times() -> None:
    clock, rng = ArrivalClock(), np.random.default_rng(0)
    delays = rng.uniform(5, 60, 500) * MS
    times = [clock.local_ns(k * 40 * MS, int(k * 40 * MS + delay)) for k, delay in enumerate(delays)]
    steps = np.diff(times[50:]) / MS
    assert np.abs(steps - 40).max() < 2
    assert np.abs(np.diff(delays[50:]) / MS).max() > 40


def test_a_clock_that_drifts_is_followed() -> None:
    clock = ArrivalClock()
    late = [
        clock.local_ns(k * 40 * MS, int(k * 40 * MS * 1.0002)) - int(k * 40 * MS * 1.0002)
        for k in range(90_000)
    ]
    assert max(abs(error) for error in late) < MS


class Taken:
    """What a source gave."""

    def __init__(self, wanted: int = 0) -> None:
        self.video: list[VideoIn] = []
        self.wanted, self.enough = wanted, asyncio.Event()
        self.audio: list[AudioIn] = []
        self.ended: asyncio.Future[LivedubError | None] = asyncio.get_running_loop().create_future()

    def take(self, frame: VideoIn) -> None:
        self.video.append(frame)
        if len(self.video) == self.wanted:
            self.enough.set()

    def source(self, address: Address, *, loop: bool = False) -> ProgrammeSource:
        return ProgrammeSource(address, self.take, self.audio.append, self.ended.set_result, loop=loop)


def test_a_file_comes_at_its_own_pace_with_its_sound(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", ClipSpec(frames=12, tone=tone(0.48)))

    async def play() -> Taken:
        taken = Taken()
        source = taken.source(Address(str(clip), "file", "file"))
        source.start()
        assert await asyncio.wait_for(taken.ended, 20) is None
        await source.close()
        return taken

    taken = asyncio.run(play())
    assert len(taken.video) == 12
    assert set(np.diff([frame.captured_ns for frame in taken.video]) // MS) <= {39, 40}
    spread_ns = taken.video[-1].stamps_ns["received"] - taken.video[0].stamps_ns["received"]
    assert spread_ns >= 11 * 40 * MS - 40 * MS
    samples = np.concatenate([piece.samples for piece in taken.audio])
    assert taken.audio[0].rate_hz == MEDIA_RATE_HZ
    assert abs(len(samples) / MEDIA_RATE_HZ - read_dub_audio(clip).duration_s) < 0.05
    assert np.abs(samples).max() > 1000


def test_a_file_can_begin_again_without_a_gap_in_its_times(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", ClipSpec(frames=5))

    async def play() -> list[VideoIn]:
        taken = Taken(wanted=12)
        source = taken.source(Address(str(clip), "file", "file"), loop=True)
        source.start()
        await asyncio.wait_for(taken.enough.wait(), 20)
        await source.close()
        count = len(taken.video)
        await asyncio.sleep(0.1)
        assert len(taken.video) == count
        return taken.video

    assert set(np.diff([frame.captured_ns for frame in asyncio.run(play())]) // MS) <= {39, 40}


@pytest.mark.parametrize("content", [b"", b"no film", bytes(range(256)) * 40])
def test_what_is_no_film_ends_with_an_error(tmp_path: Path, content: bytes) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(content)

    async def play() -> LivedubError | None:
        taken = Taken()
        source = taken.source(Address(str(clip), "file", "file"))
        source.start()
        error = await asyncio.wait_for(taken.ended, 20)
        await source.close()
        return error

    assert isinstance(asyncio.run(play()), MediaError)


@pytest.mark.skipif(shutil.which("ffmpeg") is not None, reason="ffmpeg is installed")
def test_srt_without_ffmpeg_says_what_to_install() -> None:
    async def play() -> LivedubError | None:
        taken = Taken()
        source = taken.source(Address("srt://127.0.0.1:9", "", "srt"))
        source.start()
        error = await asyncio.wait_for(taken.ended, 20)
        await source.close()
        return error

    error = asyncio.run(play())
    assert isinstance(error, BackendUnavailable)
    assert "ffmpeg" in str(error)
