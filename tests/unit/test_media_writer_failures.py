import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine.errors import OutputError
from engine.image.yuv import I420, Colour
from engine.media import DubAudio, VideoFrame, VideoInfo, open_writer, probe
from tests.support.media import pattern, tone

INFO = VideoInfo(64, 48, Fraction(1, 25), Fraction(25), Colour("bt601", False))
LARGE = VideoInfo(320, 240, Fraction(1, 25), Fraction(25), Colour("bt601", False))


def write(path: Path, pts: list[int]) -> Path:
    with open_writer(path, INFO, audio=None) as writer:
        for index, at in enumerate(pts):
            writer.write(VideoFrame(pattern(INFO.width, INFO.height, index), at))
    return path


class Stopped(BaseException):
    """Something that is not an `Exception`."""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Stopped])
@pytest.mark.parametrize("frames", [0, 1, 40])
@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_an_exception_leaves_nothing(
    error: type[BaseException], frames: int, name: str, tmp_path: Path
) -> None:
    def broken_off() -> None:
        with open_writer(tmp_path / name, INFO, audio=DubAudio(tone(1.0), 48_000)) as writer:
            for index in range(frames):
                writer.write(VideoFrame(pattern(64, 48, index), index))
            raise error

    with pytest.raises(error):
        broken_off()
    assert list(tmp_path.iterdir()) == []


def test_what_seals_a_film_sees_it_whole_and_may_refuse_it(tmp_path: Path) -> None:
    seen = []

    def seal(path: Path) -> None:
        seen.append(probe(path).has_video)
        if len(seen) > 1:
            raise OutputError("no")

    for name in ("kept.mp4", "refused.mp4"):
        with suppress(OutputError), open_writer(tmp_path / name, INFO, audio=None, seal=seal) as writer:
            writer.write(VideoFrame(pattern(64, 48, 0), 0))
    assert seen == [True, True]
    assert [path.name for path in tmp_path.iterdir()] == ["kept.mp4"]


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"older")
    with open_writer(path, INFO, audio=None) as writer:
        writer.write(VideoFrame(pattern(64, 48, 0), 0))
        assert path.read_bytes() == b"older"
        assert len(list(tmp_path.iterdir())) == 2
    assert probe(path).has_video
    assert list(tmp_path.iterdir()) == [path]


def test_control_c_while_writing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with open_writer(tmp_path / "out.mp4", INFO, audio=None) as writer:
            for index in range(100_000):
                if index == 30:
                    signal.raise_signal(signal.SIGINT)
                writer.write(VideoFrame(pattern(64, 48, index), index))

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = write(tmp_path / "out.mp4", [0, 1])
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["out.avi", "out", "out.txt", "out.mp4.bak"])
def test_an_unknown_ending_is_refused_at_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"must end in one of \.mp4"):
        open_writer(tmp_path / name, INFO, audio=None)


def test_no_frames_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="no frame"),
        open_writer(tmp_path / "out.mp4", INFO, audio=None),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    for path, says in (
        (tmp_path / "folder.mp4", "is a directory"),
        (tmp_path / "none" / "out.mp4", "No such file or directory"),
        (tmp_path / "file" / "out.mp4", "Not a directory"),
    ):
        with pytest.raises(OutputError, match=says) as caught:
            write(path, [0, 1])
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_a_folder_without_permission(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    (tmp_path / "closed").mkdir(mode=0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            write(tmp_path / "closed" / "out.mp4", [0, 1])
    finally:
        if root:
            os.seteuid(0)


def noise_frames(count: int) -> Iterator[VideoFrame]:
    rng = np.random.default_rng(0)
    for index in range(count):
        image = I420.blank(320, 240)
        image.y[...] = rng.integers(0, 256, image.y.shape, dtype=np.uint8)
        yield VideoFrame(image, index)


def write_noise(path: Path, count: int) -> None:
    with open_writer(path, LARGE, audio=DubAudio(tone(2.0), 48_000)) as writer:
        for frame in noise_frames(count):
            writer.write(frame)


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Let writes beyond the size fail with EFBIG; Python itself ignores the signal."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.webm"])
@pytest.mark.parametrize("size_bytes", [0, 1000, 100_000])
def test_no_room_is_an_error_whenever_it_shows(name: str, size_bytes: int, tmp_path: Path) -> None:
    with (
        file_size_limit(size_bytes),
        pytest.raises(OutputError, match="cannot be written: File too large"),
    ):
        write_noise(tmp_path / name, 10)
    assert list(tmp_path.iterdir()) == []


def test_every_last_missing_byte_shows(tmp_path: Path) -> None:
    for name in ("out.mp4", "out.mkv"):
        write_noise(tmp_path / name, 3)
        size_bytes = (tmp_path / name).stat().st_size
        with file_size_limit(size_bytes - 1), pytest.raises(OutputError):
            write_noise(tmp_path / name, 3)
        assert (tmp_path / name).stat().st_size == size_bytes


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        with pytest.raises(OutputError, match="No space left on device"):
            write_noise(disk / "out.mp4", 10)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_wrong_frames_are_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="64x48 px, got 32x48"),
        open_writer(tmp_path / "out.mp4", INFO, audio=None) as writer,
    ):
        writer.write(VideoFrame(pattern(32, 48, 0), 0))
    with pytest.raises(ValueError, match="pts 5 is not after 5"):
        write(tmp_path / "out.mp4", [4, 5, 5])
    with pytest.raises(ValueError, match="in a `with`"):
        open_writer(tmp_path / "out.mp4", INFO, audio=None).write(VideoFrame(pattern(64, 48, 0), 0))
    assert list(tmp_path.iterdir()) == []
