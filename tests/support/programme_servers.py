"""Servers of programmes that are ffmpeg's own: RTMP and SRT; and an RTMP server that takes one."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="needs the program ffmpeg: apt install ffmpeg"
)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of loopback that nobody has."""
    with socket.socket(type=kind) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listens(port: int, table: str = "tcp") -> bool:
    """Whether somebody does, without coming in."""
    mark = f":{port:04X} 00000000:0000 {'0A' if table == 'tcp' else '07'}"
    return mark in Path(f"/proc/net/{table}").read_text(encoding="ascii")


@contextmanager
def _running(command: tuple[str, ...], port: int, table: str = "tcp") -> Iterator["subprocess.Popen[bytes]"]:
    quiet = ("ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "fatal", "-y")
    with subprocess.Popen((*quiet, *command), stdin=subprocess.DEVNULL) as process:
        try:
            until_s = time.monotonic() + 10
            while not listens(port, table):
                if process.poll() is not None or time.monotonic() > until_s:
                    raise OSError("ffmpeg does not listen")
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


@contextmanager
def rtmp(feed: Path, port: int, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Serve a feed in real time to the first who asks, by RTMP, at /live/key."""
    url = f"rtmp://127.0.0.1:{port}/live/key"
    with _running(
        ("-re", *more, "-i", str(feed), "-c", "copy", "-f", "flv", "-listen", "1", url), port
    ) as process:
        yield process


@contextmanager
def rtmp_taking(out: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Take what is sent by RTMP to /live/key, and write it into a file."""
    url = f"rtmp://127.0.0.1:{port}/live/key"
    with _running(("-listen", "1", "-i", url, "-c", "copy", str(out)), port) as process:
        yield process


@contextmanager
def srt(feed: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Serve a feed in real time to the first who asks, by SRT."""
    url = f"srt://127.0.0.1:{port}?mode=listener"
    with _running(("-re", "-i", str(feed), "-c", "copy", "-f", "mpegts", url), port, "udp") as process:
        yield process
