"""Sessions for tests of the server: they keep sound, and answer offers with a fixed text."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from msgspec.structs import replace as replaced

from engine.actor.pack import encode_pack
from engine.errors import CapacityError, LivedubError, OfferError, OutputError, ProtocolError
from streaming.server.app import make_app, running
from streaming.server.config import ServerConfig
from streaming.server.context import SERVER, Server
from streaming.server.manager import SessionManager
from streaming.types import MEDIA_RATE_HZ, Answer, AudioIn, Event, Playback, SessionOptions
from tests.support.packs import make_pack

QUEUE_SAMPLES = 2 * MEDIA_RATE_HZ
OFFER = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
ANSWER = "v=0\r\no=- 2 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"


class MemorySession:
    """A session without pictures: what it is given stays in a queue until `play`."""

    def __init__(self, name: str, options: SessionOptions) -> None:
        self.id, self.options = name, options
        self.closed = asyncio.Event()
        self.reason: str | None = None
        self.connections: dict[str, str] = {}
        self.pieces: list[tuple[AudioIn, int | None]] = []
        self.ended: list[int | None] = []
        self.trickled: list[tuple[str, str]] = []
        self.goes_to: dict[str, tuple[str, str | None]] = {}
        self.queued = 0
        self.fail_start: LivedubError | None = None
        self._watchers: list[asyncio.Queue[Event | None]] = []

    @property
    def peers(self) -> int:
        return len(self.connections)

    @property
    def room(self) -> int:
        return QUEUE_SAMPLES - self.queued

    async def start(self) -> None:
        if self.fail_start is not None:
            raise self.fail_start

    async def close(self, reason: str) -> None:
        if not self.closed.is_set():
            self.reason = reason
            self.closed.set()
            self.connections.clear()
            for watcher in self._watchers:
                watcher.put_nowait(None)

    async def publish(self, sdp: str) -> Answer:
        if "publisher" in self.connections.values():
            raise CapacityError("somebody publishes already")
        return self._connect(sdp, "publisher")

    async def view(self, sdp: str) -> Answer:
        return self._connect(sdp, "viewer")

    async def trickle(self, resource: str, fragment: str) -> bool:
        self.trickled.append((resource, fragment))
        return resource in self.connections

    async def end(self, resource: str) -> bool:
        return self.connections.pop(resource, None) is not None

    async def dub(self, piece: AudioIn, utterance: int | None) -> int:
        count = len(piece.samples) * MEDIA_RATE_HZ // piece.rate_hz
        if count > self.room:
            raise ProtocolError("more sound than there was credit for")
        self.pieces.append((piece, utterance))
        self.queued += count
        return self.room

    async def end_utterance(self, utterance: int | None) -> None:
        self.ended.append(utterance)

    async def interrupt(self) -> Playback:
        dropped, self.queued = self.queued, 0
        utterance = self.pieces[-1][1] if self.pieces else None
        return Playback(utterance, 40, 1000 * dropped // MEDIA_RATE_HZ)

    async def add_output(self, to: str, token: str | None = None) -> str:
        if to.startswith("http://elsewhere"):
            raise OutputError("this server may not send there")
        name = f"o{len(self.goes_to)}"
        self.goes_to[name] = to, token
        return name

    async def end_output(self, name: str) -> bool:
        return self.goes_to.pop(name, None) is not None

    def outputs(self) -> list[dict[str, object]]:
        return [{"id": name, "kind": "file", "to": "shown", "state": "live"} for name in self.goes_to]

    async def events(self) -> AsyncIterator[Event]:
        watcher: asyncio.Queue[Event | None] = asyncio.Queue()
        self._watchers.append(watcher)
        try:
            while not self.closed.is_set() or not watcher.empty():
                event = await watcher.get()
                if event is None:
                    return
                yield event
        finally:
            self._watchers.remove(watcher)

    def snapshot(self) -> Mapping[str, object]:
        return {"queued": self.queued, "options": self.options}

    def tell(self, event: Event) -> None:
        """Let something happen."""
        for watcher in self._watchers:
            watcher.put_nowait(event)

    def play(self, samples: int) -> None:
        """Let sound leave."""
        self.queued = max(0, self.queued - samples)
        self.tell(Event("credit", {"samples": self.room}))

    def _connect(self, sdp: str, kind: str) -> Answer:
        if not sdp.startswith("v=0"):
            raise OfferError("the offer is no SDP")
        resource = f"{kind}-{len(self.connections)}"
        self.connections[resource] = kind
        return Answer(resource, ANSWER, f"ice-{resource}")


@dataclass
class Running:
    """A server that runs in a test.

    Attributes:
        url: of it.
        client: that talks to it.
        server: what its handlers work with.
        made: sessions that were made, in order.
    """

    url: str
    client: aiohttp.ClientSession
    server: Server
    made: list[MemorySession]

    async def session(self, **asked: Any) -> MemorySession:
        """Create one by its manager."""
        folder = self.server.config.actors.folder
        options = self.server.config.sessions.options(folder / "ann.actor")
        await self.server.sessions.create(options, **asked)
        return self.made[-1]


Scenario = Callable[[Running], Awaitable[None]]


def actors_in(folder: Path) -> Path:
    """A folder with one actor, "ann"."""
    folder.mkdir(exist_ok=True)
    (folder / "ann.actor").write_bytes(encode_pack(make_pack()))
    return folder


@asynccontextmanager
async def serving(config: ServerConfig, **parts: Any) -> AsyncIterator[Running]:
    """Run a server with memory sessions on a free port."""
    made: list[MemorySession] = []

    def make(name: str, options: SessionOptions) -> MemorySession:
        made.append(MemorySession(name, options))
        return made[-1]

    most = config.sessions.most
    sessions = SessionManager(parts.pop("make", make), most=most, clock_s=parts.pop("clock_s", lambda: 0.0))
    app: web.Application = make_app(config, sessions, **parts)
    async with running(app) as url, aiohttp.ClientSession() as client:
        yield Running(url, client, app[SERVER], made)


def scene(tmp_path: Path, scenario: Scenario, config: ServerConfig | None = None, **parts: Any) -> None:
    """Run a scenario against a server on loopback without tokens, unless the configuration says more."""

    async def play() -> None:
        folder = actors_in(tmp_path / "actors")
        base = config or ServerConfig()
        whole = replaced(
            base, server=replaced(base.server, port=0), actors=replaced(base.actors, folder=folder)
        )
        async with asyncio.timeout(20), serving(whole, **parts) as server:
            await scenario(server)

    asyncio.run(play())
