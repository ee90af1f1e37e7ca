"""A client of a live session in a process of its own, so that it can be killed or stopped.

It publishes, watches, or both, and listens to the session's events over the WebSocket.

    python -m benchmarks.live.endurance_peer ORDER.json

It says "ready" once it is connected, and goes on until its standard input ends; then it writes what it saw.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import numpy as np
from aiohttp import ClientSession, ClientTimeout
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from benchmarks.live import pattern
from benchmarks.live.programme import RATE, load
from clients.peer import EncodedSound, EncodedVideo, Link, Pace, publish, view
from clients.sdk import connect

CONNECT_LIMIT_S = 60.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to be.

    Attributes:
        url: of the server.
        session: its id.
        programme: file of `benchmarks.live.programme` to publish, None to publish nothing.
        view: whether to watch.
        out: where to write a `Seen`.
    """

    url: str
    session: str
    programme: str | None
    view: bool
    out: str


class Seen(msgspec.Struct):
    """What a viewer got.

    Attributes:
        pictures: monotonic ns of arrival, and the number in the picture, -1 where none can be read.
        sounds: monotonic ns of arrival, position in s, and the loudest sample, 0..1.
    """

    pictures: list[tuple[int, int]]
    sounds: list[tuple[int, float, float]]


class Taken:
    """Takes down what comes.

    Attributes:
        seen: so far.
        first: set once there was a picture.
    """

    def __init__(self) -> None:
        self.seen, self.first = Seen([], []), asyncio.Event()

    def picture(self, frame: VideoFrame, now_ns: int) -> None:
        """Take a picture down."""
        plane = frame.planes[0]
        luma = np.asarray(memoryview(plane)).view(np.uint8).reshape(-1, plane.line_size)
        number = pattern.read(luma[: plane.height, : plane.width])
        self.seen.pictures.append((now_ns, -1 if number is None else number))
        self.first.set()

    def sound(self, frame: AudioFrame, now_ns: int) -> None:
        """Take 20 ms of sound down."""
        position_s = float((frame.pts or 0) * (frame.time_base or 0))
        self.seen.sounds.append((now_ns, position_s, float(np.abs(frame.to_ndarray()).max()) / 32768))


async def play(order: Order) -> Seen:
    """Be that client until standard input ends."""
    seen = Taken()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(ClientSession(timeout=ClientTimeout(CONNECT_LIMIT_S)))
        links: list[Link] = []
        if order.programme is not None:
            programme, pace = load(Path(order.programme)), Pace()
            tracks = [EncodedVideo(programme.pictures, RATE, pace), EncodedSound(programme.voice, pace)]
            links.append(await publish(http, f"{order.url}/whip/{order.session}", tracks))
        if order.view:
            whep = f"{order.url}/whep/{order.session}"
            links.append(await view(http, whep, seen.picture, seen.sound))
        await stack.enter_async_context(connect(order.url, order.session))
        async with asyncio.timeout(CONNECT_LIMIT_S):
            for link in links:
                await _connected(link)
            if order.view:
                await seen.first.wait()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await _end_of_input()
        for link in links:
            await link.close()
    return seen.seen


async def _connected(link: Link) -> None:
    connected = asyncio.Event()
    link.peer.on("connectionstatechange", connected.set)
    while link.peer.connectionState != "connected":
        connected.clear()
        await connected.wait()


async def _end_of_input() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def main() -> None:
    """See the module."""
    order = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order)
    seen = asyncio.run(play(order))
    Path(order.out).write_bytes(msgspec.json.encode(seen))


if __name__ == "__main__":
    main()
