"""Clients that do not read, and clients that send rubbish, beside a session that nobody troubles."""

import asyncio
import base64
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np

from benchmarks.live.endurance_fuzz import STRANGER, Order
from benchmarks.live.endurance_parts import VOICE, Watched, stalls, watched
from benchmarks.live.endurance_rig import Client, Rig
from benchmarks.live.programme import load
from engine.errors import LivedubError
from streaming.server import messages

SAMPLE_S = 0.5
QUIET_S = 4.0
SMALL_WINDOW_BYTES = 2048
PINGS_AT_ONCE = 80
REQUESTS_AT_ONCE = 20


@dataclass
class Borne:
    """How the server bore it.

    Attributes:
        beside: the viewer of the session that nobody troubled; before: the same, until the trouble began.
        frames: of that session, by what became of them at the server.
        rss_kb: of the server, every half second.
        stalled, computed: how often its loop was more than 50 ms late, and of that because it computed.
        counts: what was sent, and what became of it.
    """

    beside: Watched
    before: Watched
    frames: dict[str, int] = field(default_factory=dict)
    rss_kb: list[int] = field(default_factory=list)
    stalled: int = 0
    computed: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def slope_kb_s(self) -> float:
        """Growth of the memory by least squares, in the second half: all that is kept is full by then."""
        rss = self.rss_kb[len(self.rss_kb) // 2 :]
        return float(np.polyfit(SAMPLE_S * np.arange(len(rss)), rss, 1)[0])

    def grown_kb(self) -> int:
        """How much more memory there was at the end than in the middle."""
        return self.rss_kb[-1] - self.rss_kb[len(self.rss_kb) // 2]


async def unread(rig: Rig, programme: Path, seconds: float, quiet_s: float = QUIET_S) -> Borne:
    """Stop a viewer for good, and read nothing from a WebSocket and an HTTP connection that go on asking."""
    counts: dict[str, int] = {"sockets the server closed": 0, "asked": 0}
    async with _beside(rig, programme) as (session, beside):
        began = await _quiet(quiet_s)
        async with rig.client(session, view=True) as stopped:
            stopped.send(signal.SIGSTOP)
            asking = [
                asyncio.create_task(_never_read(rig, _upgrade(rig, session), _PINGS, counts)),
                asyncio.create_task(_never_read(rig, b"", _requests(rig), counts)),
            ]
            try:
                borne = await _borne(rig, session, beside, programme, seconds, began)
            finally:
                for task in asking:
                    task.cancel()
                await asyncio.wait(asking)
    borne.counts = counts
    return borne


async def fuzzed(rig: Rig, programme: Path, seconds: float, quiet_s: float = QUIET_S, seed: int = 1) -> Borne:
    """Let a hostile process do its worst."""
    async with rig.session() as victim, rig.kept(victim), _beside(rig, programme) as (session, beside):
        began = await _quiet(quiet_s)
        order = Order(
            url=rig.url, pid=rig.pid, sessions=(session, victim), victim=victim, seconds=seconds, seed=seed
        )
        path = rig.folder / "fuzz.json"
        path.write_bytes(msgspec.json.encode(order))
        command = (sys.executable, "-m", "benchmarks.live.endurance_fuzz", str(path))
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        try:
            borne = await _borne(rig, session, beside, programme, seconds, began)
            async with asyncio.timeout(30):
                said, _ = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
    if process.returncode != 0:
        raise LivedubError(f"the hostile process failed with status {process.returncode}")
    borne.counts = msgspec.json.decode(said, type=dict[str, int])
    return borne


@asynccontextmanager
async def _beside(rig: Rig, programme: Path) -> AsyncIterator[tuple[str, Client]]:
    """A session with a publisher and a viewer, for a good neighbour."""
    async with rig.session(**VOICE) as session, rig.client(session, programme=programme, view=True) as client:
        await asyncio.sleep(1.0)
        yield session, client


async def _quiet(for_s: float) -> tuple[int, int]:
    """When a quiet stretch began and when it ended, monotonic ns."""
    began_ns = time.monotonic_ns()
    await asyncio.sleep(for_s)
    return began_ns, time.monotonic_ns()


async def _borne(
    rig: Rig, session: str, beside: Client, programme: Path, seconds: float, quiet_ns: tuple[int, int]
) -> Borne:
    rss: list[int] = []
    stalled, computed = await stalls(rig)
    began_ns, end_s = time.monotonic_ns(), time.monotonic() + seconds
    while time.monotonic() < end_s:
        rss.append(rig.held().rss_kb)
        await asyncio.sleep(SAMPLE_S)
    ended_ns = time.monotonic_ns()
    stalled_after, computed_after = await stalls(rig)
    now = await rig.now(session)
    seen, round_frames = await beside.end(), len(load(programme).pictures)
    return Borne(
        watched(seen, round_frames, began_ns, ended_ns),
        watched(seen, round_frames, *quiet_ns),
        {**now["frames"], "not encoded": now["video"]["skipped"]},
        rss,
        stalled_after - stalled,
        computed_after - computed,
    )


async def _never_read(rig: Rig, greeting: bytes, asked: bytes, counts: dict[str, int]) -> None:
    """Connect with a tiny window, and ask and ask; begin anew when the server has had enough."""
    loop, address = asyncio.get_running_loop(), urlsplit(rig.url)
    while True:
        with socket.socket() as line:
            line.bind((STRANGER, 0))
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW_BYTES)
            line.setblocking(False)
            with suppress(OSError):
                await loop.sock_connect(line, (address.hostname or "", address.port or 0))
                await loop.sock_sendall(line, greeting)
                while True:
                    await loop.sock_sendall(line, asked)
                    counts["asked"] += 1
                    await asyncio.sleep(0.1)
            counts["sockets the server closed"] += 1
        await asyncio.sleep(1.0)


def _upgrade(rig: Rig, session: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        f"GET /v1/stream/{session} HTTP/1.1",
        f"Host: {urlsplit(rig.url).netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {messages.SUBPROTOCOL}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _requests(rig: Rig) -> bytes:
    one = f"GET /metrics HTTP/1.1\r\nHost: {urlsplit(rig.url).netloc}\r\n\r\n"
    return one.encode() * REQUESTS_AT_ONCE


def _frame(payload: bytes) -> bytes:
    """A WebSocket frame of a client, binary, with a mask of zeros."""
    return bytes((0x82, 0x80 | len(payload))) + bytes(4) + payload


_PINGS = _frame(messages.encode("ping", 1, {})) * PINGS_AT_ONCE
