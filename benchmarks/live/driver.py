"""One measured run against a server that is up: publishes a programme, lets a browser watch, writes it down.

    python -m benchmarks.live.driver ORDER.json RESULT.json

It runs on the viewer's side of the network, and reaches the server's HTTP through a Unix socket.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
from aiohttp import ClientSession, ClientTimeout, UnixConnector, web

from benchmarks.live.analysis import Seen, Sent
from benchmarks.live.browser import browser
from benchmarks.live.programme import RATE, load
from clients.peer import EncodedSound, EncodedVideo, Pace, publish
from engine.errors import LivedubError
from streaming.types import NS_PER_S

SETTLE_S = 2.0  # of publishing, before anybody watches
PATIENCE_S = 60.0
SERVER = "http://127.0.0.1"
_VIEWER = Path(__file__).with_name("viewer.html")
_LIPSYNC = Path(__file__).parents[2] / "clients/web/live/lipsync.js"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        socket: of the relay to the server's HTTP.
        programme: file of `benchmarks.live.programme`.
        session: body of `POST /v1/sessions`.
        seconds: that the browser watches.
        lipsync: whether its page lines lips and sound up as ours does, or leaves that to the browser.
        server_pid: whose CPU, and whose children's, is counted.
    """

    socket: str
    programme: str
    session: dict[str, Any]
    seconds: float
    lipsync: bool
    server_pid: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        seen, sent: for `analysis`.
        server_cpu, viewer_cpu, publisher_cpu: cores, mean over the time that was watched.
        snapshot: of the session at the end; metrics: the server's, Prometheus text.
        interrupt: the answer to an interruption at the end.
    """

    seen: Seen
    sent: Sent
    server_cpu: float
    viewer_cpu: float
    publisher_cpu: float
    snapshot: dict[str, Any]
    metrics: str
    interrupt: dict[str, Any]


async def measure(order: Order) -> Outcome:
    """Do it.

    Raises:
        LivedubError: the server refused, or the browser never reported.
    """
    programme = load(Path(order.programme))
    async with ClientSession(connector=UnixConnector(order.socket), timeout=ClientTimeout(60)) as http:
        session = await _json(http, "post", "/v1/sessions", order.session)
        pace = Pace()
        tracks = [EncodedVideo(programme.pictures, RATE, pace), EncodedSound(programme.voice, pace)]
        link = await publish(http, f"{SERVER}{session['whip']}", tracks)
        await asyncio.sleep(SETTLE_S)
        async with viewer_page(http, f"{SERVER}{session['whep']}") as (url, posted):
            page = f"{url}/?seconds={order.seconds}{'&lipsync' if order.lipsync else ''}"
            with (
                browser(page) as shown,
                _cpu(order.server_pid, shown.pid) as spent,
            ):
                async with asyncio.timeout(order.seconds + PATIENCE_S):
                    seen = await posted
                used = spent()
        where = f"/v1/sessions/{session['id']}"
        snapshot = await _json(http, "get", where)
        async with http.get(f"{SERVER}/metrics") as answer:
            metrics = await answer.text()
        interrupt = await _json(http, "post", f"{where}/interrupt", {})
        await link.close()
        async with http.delete(f"{SERVER}{where}"):
            pass
    offset_ns = time.time_ns() - time.monotonic_ns()
    start_ms = ((pace.start_ns or 0) + offset_ns) / 1e6
    sent = Sent(start_ms, 1000 / float(RATE), len(programme.pictures))
    server, viewer, publisher = used
    return Outcome(
        seen=seen,
        sent=sent,
        server_cpu=server,
        viewer_cpu=viewer,
        publisher_cpu=publisher,
        snapshot=snapshot,
        metrics=metrics,
        interrupt=interrupt,
    )


async def _json(http: ClientSession, verb: str, path: str, body: object = None) -> dict[str, Any]:
    async with http.request(verb, f"{SERVER}{path}", json=body) as answer:
        content: dict[str, Any] = await answer.json()
        if not answer.ok:
            raise LivedubError(f"{verb} {path}: {answer.status} {content.get('error', '')}")
        return content


@asynccontextmanager
async def viewer_page(http: ClientSession, whep: str) -> Any:
    """The viewer's page on this side's loopback; gives its address and what it posts at its end."""
    posted: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()

    async def forward(request: web.Request) -> web.Response:
        async with http.post(
            whep, data=await request.text(), headers={"Content-Type": "application/sdp"}
        ) as answer:
            return web.Response(
                status=answer.status, text=await answer.text(), content_type="application/sdp"
            )

    async def take(request: web.Request) -> web.Response:
        if not posted.done():
            posted.set_result(msgspec.json.decode(await request.read(), type=Seen))
        return web.Response()

    async def show(request: web.Request) -> web.FileResponse:
        return web.FileResponse(_VIEWER if request.path == "/" else _LIPSYNC)

    app = web.Application(client_max_size=256 << 20)
    app.add_routes(
        [
            web.get("/", show),
            web.get("/lipsync.js", show),
            web.post("/whep", forward),
            web.post("/log", take),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", posted
    finally:
        await runner.cleanup()


@contextmanager
def _cpu(server_pid: int, viewer_pid: int) -> Iterator[Any]:
    """Gives what tells the cores that the server, the viewer and this process used since."""
    pids = server_pid, viewer_pid, os.getpid()
    own = {viewer_pid}
    before, began_ns = [_seconds(pid, own - {pid}) for pid in pids], time.monotonic_ns()

    def used() -> list[float]:
        wall_s = (time.monotonic_ns() - began_ns) / NS_PER_S
        now = [_seconds(pid, own - {pid}) for pid in pids]
        return [max(0.0, b - a) / wall_s for a, b in zip(before, now, strict=True)]

    yield used


def _seconds(pid: int, without: set[int]) -> float:
    """CPU time of a process and its children so far, s."""
    total = 0.0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        skipped = {child.pid for other in without for child in _family(other)}
        for process in _family(pid):
            if process.pid not in skipped or process.pid == root.pid:
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    total += times.user + times.system
    return total


def _family(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _first_in_line() -> None:
    """Let the publisher wake up on time where that is allowed: its lateness would count as the network's.

    Not so the browser, nor the server.
    """
    if hasattr(os, "SCHED_RESET_ON_FORK"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(5))


def main() -> None:
    """See the module."""
    _first_in_line()
    gc.disable()  # a collection of 50 ms would count as the network's
    order = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order)
    outcome = asyncio.run(measure(order))
    Path(sys.argv[2]).write_bytes(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
