"""The real server as a child process, clients of it as others, and what the system says about them."""

import asyncio
import itertools
import os
import shutil
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
from aiohttp import ClientSession, ClientTimeout
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.live.endurance_peer import Order, Seen
from engine.errors import LivedubError

START_S, END_S, WAIT_S = 120.0, 15.0, 60.0
LINES_KEPT = 400
_SERVE = "from clients.cli import main; main()"


@dataclass(frozen=True)
class Held:
    """What a process holds.

    Attributes:
        threads, descriptors, sockets: how many; `sockets` are UDP.
        rss_kb: memory that is its own or shared.
    """

    threads: int
    descriptors: int
    sockets: int
    rss_kb: int

    def covers(self, other: "Held") -> bool:
        """Whether `other` holds no more, memory aside."""
        return (
            other.threads <= self.threads
            and other.descriptors <= self.descriptors
            and other.sockets <= self.sockets
        )


class Client:
    """A client in its own process.

    Args:
        process: running `benchmarks.live.endurance_peer`.
        out: where that writes what it saw.
    """

    def __init__(self, process: Process, out: Path) -> None:
        self.process, self._out = process, out

    async def ready(self) -> None:
        """Wait until it is connected.

        Raises:
            LivedubError: it is not.
        """
        if self.process.stdout is None:
            raise LivedubError("the client cannot be heard")
        async with asyncio.timeout(WAIT_S):
            said = await self.process.stdout.readline()
        if said != b"ready\n":
            raise LivedubError("a client could not connect")

    def send(self, number: signal.Signals) -> int:
        """Send it a signal; monotonic ns of that."""
        self.process.send_signal(number)
        return time.monotonic_ns()

    async def end(self) -> Seen:
        """Let it go, and return what it saw."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        async with asyncio.timeout(END_S):
            await self.process.wait()
        return msgspec.json.decode(self._out.read_bytes(), type=Seen)

    async def abandon(self) -> None:
        """Kill it if it is still there."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Rig:
    """A server that runs, and how to talk to it.

    Attributes:
        url: of the server.
        pid: of its process.
        http: to ask it.
        folder: for files of the run.
        said: the last lines of its log.
    """

    def __init__(self, url: str, pid: int, http: ClientSession, folder: Path, said: deque[str]) -> None:
        self.url, self.pid, self.http, self.folder, self.said = url, pid, http, folder, said
        self._process, self._numbers = psutil.Process(pid), itertools.count()

    async def ask(self, verb: str, path: str, body: object = None) -> Any:
        """Return the server's JSON answer, None for an empty one.

        Raises:
            LivedubError: it is a refusal.
        """
        async with self.http.request(verb, f"{self.url}{path}", json=body) as answer:
            if not answer.ok:
                raise LivedubError(f"{verb} {path}: {answer.status} {(await answer.text())[:200]}")
            return await answer.json() if answer.content_type == "application/json" else None

    @asynccontextmanager
    async def session(self, **options: Any) -> AsyncIterator[str]:
        """The id of a session that ends with the block, if it has not before."""
        made: dict[str, Any] = await self.ask("post", "/v1/sessions", {"actor": "actor", **options})
        name = str(made["id"])
        try:
            yield name
        finally:
            await self.over(name)

    async def over(self, session: str) -> None:
        """End a session."""
        await self.ask("delete", f"/v1/sessions/{session}")

    async def now(self, session: str) -> dict[str, Any]:
        """How a session is."""
        shown: dict[str, Any] = await self.ask("get", f"/v1/sessions/{session}")
        return dict(shown["now"])

    async def dubbed(self, session: str) -> int:
        """Frames that have left with a drawn mouth."""
        frames: dict[str, int] = (await self.now(session))["frames"]
        return frames.get("dubbed", 0)

    async def metrics(self) -> dict[str, float]:
        """The server's metrics: by name, with the labels as in Prometheus's text."""
        async with self.http.get(f"{self.url}/metrics") as answer:
            text = await answer.text()
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found

    def held(self) -> Held:
        """What the server holds now, its workers aside."""
        with self._process.oneshot():
            return Held(
                self._process.num_threads(),
                self._process.num_fds(),
                len(self._process.net_connections("udp")),
                self._process.memory_info().rss >> 10,
            )

    def udp_ports(self) -> list[int]:
        """Ports on which it takes datagrams."""
        return sorted({link.laddr.port for link in self._process.net_connections("udp") if link.laddr})

    async def calm(self, for_s: float = 1.5) -> Held:
        """What it holds once that has not changed for a while: spare workers start by themselves."""
        last, since_s, end_s = self.held(), time.monotonic(), time.monotonic() + WAIT_S
        while time.monotonic() < min(since_s + for_s, end_s):
            await asyncio.sleep(0.1)
            now = self.held()
            if not (last.covers(now) and now.covers(last)):
                since_s = time.monotonic()
            last = now
        return last

    @asynccontextmanager
    async def client(
        self, session: str, *, programme: Path | None = None, view: bool = False
    ) -> AsyncIterator[Client]:
        """A client that is connected."""
        name = f"client{next(self._numbers)}"
        out, orders = self.folder / f"{name}.out", self.folder / f"{name}.json"
        order = Order(
            url=self.url,
            session=session,
            programme=None if programme is None else str(programme),
            view=view,
            out=str(out),
        )
        orders.write_bytes(msgspec.json.encode(order))
        process = await _python("-m", "benchmarks.live.endurance_peer", str(orders), stdin=PIPE, stdout=PIPE)
        client = Client(process, out)
        try:
            async with self.kept(session):
                await client.ready()
            yield client
        finally:
            await client.abandon()

    @asynccontextmanager
    async def kept(self, session: str) -> AsyncIterator[None]:
        """Let a session not end for want of clients."""

        async def ask() -> None:
            while True:
                await self.now(session)
                await asyncio.sleep(1.0)

        asking = asyncio.create_task(ask())
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.wait({asking})


@asynccontextmanager
async def rig(actor: Path, folder: Path, settings: str) -> AsyncIterator[Rig]:
    """`livedub serve` until the block ends.

    Args:
        actor: pack that every session may use, as "actor".
        folder: for files of the run.
        settings: TOML, of the server.

    Raises:
        LivedubError: it does not start, or did not end by itself when it was told to.
    """
    actors, config = _files(actor, folder, settings)
    said: deque[str] = deque(maxlen=LINES_KEPT)
    command = ["-c", _SERVE, "serve", "--port", "0", "--actors", str(actors), "--config", str(config)]
    process = await _python(*command, stdin=DEVNULL, stderr=PIPE)
    reading = None
    try:
        async with asyncio.timeout(START_S):
            url = await _address(process, said)
        reading = asyncio.create_task(_read(process, said))
        async with ClientSession(timeout=ClientTimeout(WAIT_S)) as http:
            yield Rig(url, process.pid, http, folder, said)
    finally:
        await _ended(process)
        if reading is not None:
            await reading
    if process.returncode != 0:
        raise LivedubError(f"the server ended with status {process.returncode}: {said[-1] if said else ''}")


def _files(actor: Path, folder: Path, settings: str) -> tuple[Path, Path]:
    """The folder of actors and the configuration."""
    actors, config = folder / "actors", folder / "livedub.toml"
    actors.mkdir(exist_ok=True)
    shutil.copyfile(actor, actors / "actor.actor")
    config.write_text(settings)
    return actors, config


async def until(ready: Callable[[], Any], what: str, limit_s: float = WAIT_S, every_s: float = 0.05) -> None:
    """Wait for a coroutine function to say yes.

    Raises:
        LivedubError: it does not within the limit.
    """
    end_s = time.monotonic() + limit_s
    while not await ready():
        if time.monotonic() > end_s:
            raise LivedubError(f"{what}: not within {limit_s:.0f} s")
        await asyncio.sleep(every_s)


async def _python(*arguments: str, **streams: Any) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=os.environ | {"OMP_NUM_THREADS": "1"}, **streams
    )


async def _address(process: Process, said: deque[str]) -> str:
    if process.stderr is not None:
        async for line in process.stderr:
            said.append(line.decode(errors="replace").rstrip())
            for word in said[-1].split():
                if word.startswith(("http://", "https://")):
                    return word.rstrip("/")
    last: Sequence[str] = list(said)[-3:]
    raise LivedubError(f"the server did not start: {' '.join(last)}")


async def _read(process: Process, said: deque[str]) -> None:
    if process.stderr is not None:
        async for line in process.stderr:
            said.append(line.decode(errors="replace").rstrip())


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
