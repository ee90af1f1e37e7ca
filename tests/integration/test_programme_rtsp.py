"""Programmes by RTSP: a camera that plays, and the troubles of real ones."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import MediaError
from streaming.media import opening, patience, source
from streaming.media.address import SCHEMES
from streaming.media.source import ProgrammeSource
from streaming.types import NS_PER_S
from tests.support.programme_feed import Inbox, picture, until, write_feed
from tests.support.rtsp_server import RtspServer, Troubles, rtsp

RTSP = SCHEMES["rtsp"]
Scene = Callable[[Inbox, ProgrammeSource], Awaitable[None]]


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_feed(tmp_path_factory.mktemp("rtsp") / "feed.ts", 6)


async def one(server: RtspServer, scene: Scene) -> Inbox:
    async with rtsp(server) as url:
        box = Inbox()
        programme = box.source(url, RTSP)
        programme.start()
        try:
            await scene(box, programme)
        finally:
            await programme.close()
        assert not programme._thread.is_alive()
        return box


def played(server: RtspServer, scene: Scene) -> Inbox:
    return asyncio.run(one(server, scene))


def together(servers: Iterable[RtspServer], scene: Scene) -> list[Inbox]:
    """All at the same time: they are several programmes of one event loop."""

    async def play() -> list[Inbox]:
        return await asyncio.gather(*(one(server, scene) for server in servers))

    return asyncio.run(play())


def camera(feed: Path, **troubles: Any) -> RtspServer:
    server = RtspServer(feed)
    server.troubles = Troubles(**troubles)
    return server


def pictures(count: int) -> Scene:
    async def scene(box: Inbox, programme: ProgrammeSource) -> None:
        await until(lambda: len(box.numbers) >= count or box.ended.done())

    return scene


async def ended(box: Inbox, programme: ProgrammeSource) -> None:
    await asyncio.wait_for(box.ended, 15)


def test_pictures_and_sound_come_as_they_are_sent(feed: Path) -> None:
    began_ns = time.monotonic_ns()
    box = played(camera(feed), pictures(60))
    first = box.numbers[0]
    assert first is not None
    assert first < 10
    assert box.numbers == list(range(first, first + len(box.numbers)))
    assert (box.came_ns[0] - began_ns) / NS_PER_S < 2
    assert all(abs(step - 40) < 10 for step in box.steps_ms()[10:])
    assert len(box.offsets_ms()) >= 2
    assert all(abs(offset) < 20 for offset in box.offsets_ms())
    shown, latest = picture(box.numbers[-1] or 0), box.latest
    assert latest is not None
    assert abs(latest.y.astype(int) - shown.y).mean() < 6


def test_between_keyframes_nothing_broken_is_shown(feed: Path) -> None:
    box = played(camera(feed, begins_s=0.5), pictures(20))
    assert box.numbers[0] in {25, 26}
    assert None not in box.numbers


def test_times_that_jump_break_neither_pace_nor_sync(feed: Path) -> None:
    for box in together((camera(feed, jumps={1.5: by_s}) for by_s in (-7.5, 5000.0)), pictures(75)):
        assert (box.numbers[-1] or 0) - (box.numbers[0] or 0) == len(box.numbers) - 1
        assert all(0 <= step < 90 for step in box.steps_ms())
        lates_ms = [(came - taken) / 1e6 for came, taken in zip(box.came_ns, box.captured_ns, strict=True)]
        assert max(lates_ms[10:]) < 250
        assert len(box.offsets_ms()) >= 2
        assert all(abs(offset) < 40 for offset in box.offsets_ms())
        assert box.changes == []


def test_announced_sound_that_never_comes_delays_no_picture(feed: Path) -> None:
    began_ns = time.monotonic_ns()
    box = played(camera(feed, only=(0,)), pictures(20))
    assert (box.came_ns[0] - began_ns) / NS_PER_S < 3
    assert box.sounds == 0
    assert all(20 < step < 90 for step in box.steps_ms()[2:])  # what had waited is left out


def test_pictures_that_are_missing_for_a_while_come_again(feed: Path) -> None:
    box = played(camera(feed, skips=(1.0, 2.1)), pictures(60))
    gap = box.steps_ms().index(max(box.steps_ms()))
    assert box.steps_ms()[gap] > 700
    assert (box.came_ns[-1] - box.captured_ns[-1]) / NS_PER_S < 0.3
    assert box.changes == []


def test_a_camera_that_leaves_is_asked_again_and_again(feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_S", 0.2)

    async def play() -> tuple[Inbox, list[float]]:
        box, times_s = Inbox(), []
        async with rtsp(camera(feed)) as url:
            port = int(url.split(":")[2].partition("/")[0])
            programme = box.source(url, RTSP)
            programme.start()
            await until(lambda: len(box.numbers) > 25)
        await until(lambda: len(box.changes) == 1)

        async def refused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            times_s.append(time.monotonic())
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(refused, "127.0.0.1", port):
            await until(lambda: len(times_s) == 3)
        seen = len(box.numbers)
        async with rtsp(camera(feed), port):
            await until(lambda: len(box.numbers) > seen + 10)
            await programme.close()
        return box, times_s

    box, times_s = asyncio.run(play())
    assert box.changes[1:] == [None]
    assert times_s[1] - times_s[0] > 0.39
    assert times_s[2] - times_s[1] > 0.79
    assert times_s[2] - times_s[0] < 4


def test_one_that_stays_away_is_given_up(feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "GONE_S", 1.0)
    monkeypatch.setattr(patience, "FIRST_S", 0.2)

    async def play() -> Inbox:
        box = Inbox()
        async with rtsp(camera(feed)) as url:
            programme = box.source(url, RTSP)
            programme.start()
            await until(lambda: len(box.numbers) > 5)
        await asyncio.wait_for(box.ended, 5)
        await programme.close()
        return box

    box = asyncio.run(play())
    assert str(box.ended.result()).endswith("cannot be opened: Connection refused")
    assert len(box.changes) == 1


def test_what_gives_no_picture_ends_with_the_reason(feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OPEN_S", 1.5)
    monkeypatch.setattr(source, "PICTURE_S", 1.0)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"silent_at": "DESCRIBE"}, "nothing came for 2 s"),
        ({"silent_at": "PLAY"}, "nothing came for 2 s"),
        ({"status": "401 Unauthorized"}, "401 Unauthorized"),
        ({"codec": "VP77"}, "coded in a way that is not known"),
        ({"codec": "H265"}, "no picture came for 1 s"),
        ({"only": (2,)}, "no picture came for 1 s"),
    ]
    boxes = together((camera(feed, **troubles) for troubles, _ in cases), ended)
    for box, (_, why) in zip(boxes, cases, strict=True):
        error = box.ended.result()
        assert isinstance(error, MediaError)
        assert why in str(error)
        assert box.changes == []


def test_nobody_is_there(feed: Path) -> None:
    async def play() -> str:
        async with rtsp(camera(feed)) as url:
            pass
        box = Inbox()
        programme = box.source(url.replace("://", "://me:geheim@") + "?key=geheim", RTSP)
        programme.start()
        error = str(await asyncio.wait_for(box.ended, 5))
        await programme.close()
        return error

    error = asyncio.run(play())
    assert error.endswith("cannot be opened: Connection refused")
    assert "geheim" not in error


def test_one_that_falls_silent_is_left_and_asked_again(feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "READ_S", 1.0)
    server = camera(feed, stops_after_s=0.6)

    async def scene(box: Inbox, programme: ProgrammeSource) -> None:
        await until(lambda: len(box.changes) == 1)
        server.troubles = Troubles()
        await until(lambda: len(box.changes) == 2)

    box = played(server, scene)
    assert str(box.changes[0]).endswith("went away: nothing came for 1 s")
    assert "TEARDOWN" in server.asked
