import asyncio
import socket
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from engine.errors import LivedubError, OutputError
from engine.image.yuv import Colour
from engine.media import open_video, read_dub_audio
from streaming.media.sink import WAITING, Sink
from streaming.rtc.encoder import VideoEncoder
from streaming.types import MEDIA_RATE_HZ
from tests.support.media import pattern, tone

FRAMES = 50


async def _record(target: Path | str, *, frames: int = FRAMES, start: int = 960 * 7) -> LivedubError | None:
    ended: asyncio.Future[LivedubError | None] = asyncio.get_running_loop().create_future()
    sink, encoder = Sink(target, ended.set_result), VideoEncoder()
    sink.start()
    voice = (tone(frames / 25)[0] * 20_000).astype(np.int16)
    for k in range(frames):
        position = start + k * 1920
        made = encoder.encode(
            pattern(320, 240, k), Colour("bt709", False), position, target_bps=1_000_000, keyframe=k == 3
        )
        sink.video(made.data, position, keyframe=made.keyframe)
        for part in range(2):
            at = 1920 * k + 960 * part
            sink.audio(voice[at : at + 960], start + at)
    await sink.close()
    return await asyncio.wait_for(ended, 10)


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts"])
def test_a_recording_has_every_picture_and_its_sound(tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"dub{ending}"
    assert asyncio.run(_record(out)) is None
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    with open_video(out) as reader:
        times = [frame.pts * reader.info.time_base for frame in reader]
    assert len(times) == FRAMES
    assert max(abs(float(b - a - Fraction(1, 25))) for a, b in pairwise(times)) < 0.002
    sound = read_dub_audio(out)
    assert abs(sound.duration_s - FRAMES / 25) < 0.06


def test_a_session_without_a_picture_leaves_no_file(tmp_path: Path) -> None:
    error = asyncio.run(_record(tmp_path / "dub.mp4", frames=0))
    assert isinstance(error, OutputError)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    error = asyncio.run(_record(tmp_path / "no" / "dub.mp4", frames=2))
    assert isinstance(error, OutputError)


RTMP_SERVER = """
import av, sys
kinds = []
try:
    with av.open(sys.argv[1], options={"listen": "1"}, timeout=(20, 8)) as there:
        for packet in there.demux():
            kinds += [packet.stream.type] if packet.dts is not None else []
except OSError:
    pass
sys.stdout.write(" ".join(kinds))
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_an_rtmp_server_gets_picture_and_sound(port: int) -> None:
    url = f"rtmp://127.0.0.1:{port}/live/a-secret-key"
    server = subprocess.Popen([sys.executable, "-c", RTMP_SERVER, url], stdout=subprocess.PIPE, text=True)
    with server:
        while not listens(port):
            assert server.poll() is None
        error = asyncio.run(_record(url))
        kinds = server.communicate(timeout=20)[0].split()
    assert error is None
    assert kinds.count("video") > FRAMES // 3
    assert kinds.count("audio") > FRAMES // 3


def listens(port: int) -> bool:
    """Whether somebody does, without coming in."""
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text(encoding="ascii")


def test_an_rtmp_server_that_is_not_there_is_told_without_the_key(port: int) -> None:
    error = asyncio.run(_record(f"rtmp://127.0.0.1:{port}/live/a-secret-key"))
    assert str(error) == f"rtmp://127.0.0.1:{port}: cannot be sent to: Connection refused"


def test_an_rtmp_server_that_never_answers_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.media.sink.CLOSE_S", 0.5)
    stalls_s: list[float] = []

    async def watched(port: int) -> LivedubError | None:
        recording = asyncio.ensure_future(
            asyncio.to_thread(asyncio.run, _record(f"rtmp://127.0.0.1:{port}/a"))
        )
        while not recording.done():
            before_s = time.monotonic()
            await asyncio.sleep(0.01)
            stalls_s.append(time.monotonic() - before_s)
        return await recording

    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = asyncio.run(watched(int(silent.getsockname()[1])))
    assert "does not answer" in str(error)
    assert max(stalls_s) < 2


@pytest.mark.parametrize("target", ["dub.avi", "http://x/y", "rtsp://x/key", ""])
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(OutputError, match="rtmp"):
        Sink(target, lambda error: None)


def test_a_sink_that_does_not_write_costs_no_memory(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "dub.mkv", lambda error: None)  # never started: the slowest disk there is
    for k in range(4 * WAITING):
        sink.video(b"picture", k, keyframe=k % 25 == 0)
        sink.audio(np.zeros(960, np.int16), k * MEDIA_RATE_HZ)
    assert sink._pieces.qsize() == WAITING
    assert sink.dropped > WAITING
