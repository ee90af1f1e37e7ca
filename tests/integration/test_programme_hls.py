"""Programmes by HLS: a playlist that moves on, its server's troubles, and what it may not ask for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.errors import MediaError
from streaming.media import opening, source
from streaming.media.address import SCHEMES
from streaming.media.source import ProgrammeSource
from streaming.types import NS_PER_S
from tests.support.hls_server import HlsServer, hls, write_segments
from tests.support.programme_feed import Inbox, until, write_feed

HTTP = SCHEMES["http"]
Scene = Callable[[str, Inbox, ProgrammeSource], Awaitable[None]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("hls")
    made = write_segments(write_feed(folder / "feed.ts", 8), folder, "a")
    assert len(made) == 8
    return made


async def one(server: HlsServer, scene: Scene) -> Inbox:
    async with hls(server) as (url, _):
        box = Inbox()
        programme = box.source(url, HTTP)
        programme.start()
        try:
            await scene(url, box, programme)
        finally:
            await programme.close()
        return box


def played(server: HlsServer, scene: Scene) -> Inbox:
    return asyncio.run(one(server, scene))


async def ended(url: str, box: Inbox, programme: ProgrammeSource) -> None:
    await asyncio.wait_for(box.ended, 15)


def test_segments_come_out_at_an_even_pace_with_their_sound(parts: list[Path]) -> None:
    began_ns = time.monotonic_ns()

    async def scene(url: str, box: Inbox, programme: ProgrammeSource) -> None:
        await until(lambda: len(box.numbers) >= 80)

    box = played(HlsServer(parts), scene)
    assert box.numbers == list(range(len(box.numbers)))
    assert all(39 < step < 41 for step in box.steps_ms())
    assert (box.came_ns[0] - began_ns) / NS_PER_S < 2
    assert (box.came_ns[79] - box.came_ns[0]) / NS_PER_S > 79 / 25 - 0.5
    assert len(box.offsets_ms()) >= 3
    assert all(abs(offset) < 10 for offset in box.offsets_ms())


def test_a_discontinuity_keeps_pace_and_sync_and_a_playlist_s_end_is_the_programme_s(
    parts: list[Path],
) -> None:
    async def play() -> tuple[Inbox, Inbox]:
        broken = HlsServer([*parts[4:6], None, *parts[:2]], ahead=4, ends=True)
        going = HlsServer(parts[:4], ahead=3, ends=True)
        return await asyncio.gather(one(broken, ended), one(going, ended))

    box, live = asyncio.run(play())
    assert box.ended.result() is None
    assert box.numbers == [*range(100, 150), *range(50)]
    assert all(15 < step < 60 for step in box.steps_ms())
    assert len(box.offsets_ms()) == 4
    assert all(abs(offset) < 10 for offset in box.offsets_ms())
    assert live.ended.result() is None
    assert live.numbers == list(range(100))  # and not once more, from what is then its beginning


def test_a_server_that_returns_is_played_again(parts: list[Path]) -> None:
    async def play() -> tuple[Inbox, float]:
        box = Inbox()
        async with hls(HlsServer(parts[:3], ahead=3)) as (url, port):
            programme = box.source(url, HTTP)
            programme.start()
            await until(lambda: len(box.numbers) >= 70)
        await until(lambda: len(box.changes) == 1)
        await asyncio.sleep(0.8)  # without a server
        back_s = time.monotonic()
        async with hls(HlsServer(parts[3:], ahead=3), port):
            await until(lambda: len(box.numbers) >= 100)
            took_s = (box.changed_ns[1] / NS_PER_S) - back_s
            await programme.close()
        return box, took_s

    box, took_s = asyncio.run(play())
    assert str(box.changes[0]).startswith("http://127.0.0.1:")
    assert box.changes[1:] == [None]
    assert set(range(75, 95)) <= set(box.numbers)
    assert took_s < 3
    assert not box.ended.done()


def test_what_cannot_be_had_is_said_at_once(parts: list[Path]) -> None:
    began_s = time.monotonic()
    cases = {
        "404 Not Found": HlsServer(parts, status=404),
        "403 Forbidden": HlsServer(parts, status=403),
        "5XX Server Error": HlsServer(parts, status=503),
        "cannot be opened": HlsServer([], lines=("#EXTINF:1.0,", "file:///etc/passwd")),
        "has no video": HlsServer([]),
    }
    for why, server in cases.items():
        error = played(server, ended).ended.result()
        assert isinstance(error, MediaError)
        assert why in str(error)
        assert "live.m3u8" not in str(error)
    assert time.monotonic() - began_s < 6


def test_a_server_that_hangs_holds_nobody(parts: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OPEN_S", 1.0)

    async def scene(url: str, box: Inbox, programme: ProgrammeSource) -> None:
        lates_ms = []
        while not box.ended.done():
            before_s = time.monotonic()
            await asyncio.sleep(0.01)
            lates_ms.append((time.monotonic() - before_s) * 1000)
        assert sorted(lates_ms)[len(lates_ms) // 2] < 30

    error = played(HlsServer(parts, hangs=True), scene).ended.result()
    assert str(error).endswith("cannot be opened: nothing came for 1 s")


def test_a_session_that_closes_does_not_wait_for_a_server_that_hangs(
    parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "OPEN_S", 1.5)
    monkeypatch.setattr(source, "CLOSE_S", 0.3)

    async def scene(url: str, box: Inbox, programme: ProgrammeSource) -> None:
        await asyncio.sleep(0.3)
        before_s = time.monotonic()
        await programme.close()
        assert time.monotonic() - before_s < 1
        await until(lambda: not programme._thread.is_alive(), 3)
        assert not box.ended.done()

    played(HlsServer(parts, hangs=True), scene)
