"""Programmes by RTMP and SRT, from ffmpeg's own servers: they play, go and come back, and never hang."""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from streaming.media import opening
from streaming.media.address import SCHEMES
from streaming.types import NS_PER_S
from tests.support import programme_servers as servers
from tests.support.programme_feed import Inbox, until, write_feed
from tests.support.programme_servers import free_port, needs_ffmpeg

pytestmark = needs_ffmpeg
Serve = Callable[[Path, int], AbstractContextManager[Any]]
RTMP, SRT = "rtmp://127.0.0.1:{}/live/key", "srt://127.0.0.1:{}"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_feed(tmp_path_factory.mktemp("rtmp") / "feed.ts", 12)


@pytest.mark.parametrize(("serve", "url"), [(servers.rtmp, RTMP), (servers.srt, SRT)], ids=["rtmp", "srt"])
def test_it_plays_in_step_and_once_more_when_its_server_is_back(feed: Path, serve: Serve, url: str) -> None:
    kind = socket.SOCK_DGRAM if url == SRT else socket.SOCK_STREAM
    port = free_port(kind)

    async def play() -> tuple[Inbox, int, int, float]:
        box = Inbox()
        programme = box.source(url.format(port), SCHEMES[url.partition(":")[0]])
        with serve(feed, port):
            began_ns = time.monotonic_ns()
            programme.start()
            await until(lambda: len(box.offsets_ms()) >= 2 or box.ended.done())
            seen = len(box.numbers)
        await until(lambda: len(box.changes) == 1 or box.ended.done())
        await asyncio.to_thread(time.sleep, 0.5)
        with serve(feed, port):
            back_s = time.monotonic()
            await until(lambda: len(box.changes) == 2 or box.ended.done())
            took_s = time.monotonic() - back_s
            count = len(box.numbers)
            await until(lambda: len(box.numbers) > count + 10)
            await programme.close()
        assert not programme._thread.is_alive()
        return box, began_ns, seen, took_s

    box, began_ns, seen, took_s = asyncio.run(play())
    assert not box.ended.done()
    assert (box.came_ns[0] - began_ns) / NS_PER_S < 4
    numbers = [number for number in box.numbers[:seen] if number is not None]
    assert numbers == list(range(numbers[0], numbers[0] + seen))
    assert all(abs(offset) < 40 for offset in box.offsets_ms())
    steps = box.steps_ms()[10 : seen - 1]
    assert all(20 < step < 70 for step in steps)
    assert "127.0.0.1" in str(box.changes[0])
    assert "key" not in str(box.changes[0])
    assert box.changes[1] is None
    assert took_s < 6


def test_nobody_is_there() -> None:
    async def play(url: str) -> tuple[str, float]:
        box, began_s = Inbox(), time.monotonic()
        programme = box.source(url, SCHEMES[url.partition(":")[0]])
        programme.start()
        error = str(await asyncio.wait_for(box.ended, 10))
        await programme.close()
        return error, time.monotonic() - began_s

    error, took_s = asyncio.run(play(RTMP.format(free_port())))
    assert error.endswith("cannot be opened: Connection refused")
    assert ("key" not in error, took_s < 2) == (True, True)
    error, took_s = asyncio.run(play(SRT.format(free_port(socket.SOCK_DGRAM))))
    assert "cannot be opened" in error
    assert took_s < 7


def test_a_session_that_closes_ends_an_srt_connection_that_hangs_at_once() -> None:
    async def play() -> float:
        box = Inbox()
        with socket.socket(type=socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            programme = box.source(SRT.format(silent.getsockname()[1]), SCHEMES["srt"])
            programme.start()
            await asyncio.sleep(0.5)
            before_s = time.monotonic()
            await programme.close()
            assert not programme._thread.is_alive()
            return time.monotonic() - before_s

    assert asyncio.run(play()) < 1.5


def test_an_rtmp_server_that_never_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OPEN_S", 1.0)

    async def play() -> str:
        box = Inbox()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            programme = box.source(RTMP.format(silent.getsockname()[1]), SCHEMES["rtmp"])
            programme.start()
            error = str(await asyncio.wait_for(box.ended, 5))
            await programme.close()
            return error

    assert asyncio.run(play()).endswith("cannot be opened: nothing came for 1 s")
