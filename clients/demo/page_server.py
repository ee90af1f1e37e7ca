"""The demonstration's page, served to this machine only.

Bound to 127.0.0.1. Every address begins with a random token, so other pages and other users of the machine
cannot guess it; a foreign `Host` (DNS rebinding) or `Origin` is refused. Jobs run in child processes.
"""

import asyncio
import json
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from clients.demo import footage, portrait, speech
from clients.demo.job import ACTOR_S, DEFAULT_TEXT, DEFAULT_VOICE, DemoRequest
from clients.demo.languages import FEATURED
from clients.demo.runner import Board, Jobs
from engine.actor.consent import ANY_LANGUAGE, ConsentRecord
from engine.errors import InputError, OutputError

HOST = "127.0.0.1"
MAX_UPLOAD_BYTES = 200 * 1024 * 1024
POLL_S = 20.0
STATEMENT = (
    "I am the person in this video, or that person has agreed that I make a picture of them "
    "speak words they did not say."
)
_RESULTS_KEPT = 2
_WEB = Path(__file__).resolve().parents[1] / "web"
_FILES = {"": "index.html", "page.css": "page.css", "page.js": "page.js"}
_TYPES = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "media-src 'self' blob:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class ServerOptions:
    """How to serve.

    Attributes:
        first: the request to begin with; its folders are replaced by the server's.
        port: TCP port, 0 for a free one.
        work_dir: where everything is kept; None: a temporary folder, removed at the end.
    """

    first: DemoRequest
    port: int = 0
    work_dir: Path | None = None


@asynccontextmanager
async def demo_server(options: ServerOptions, *, run: Callable[..., Any] | None = None) -> AsyncIterator[str]:
    """Serve until the block ends; gives the page's address. A temporary folder is removed at the end.

    Raises:
        OutputError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="livedub-demo-", ignore_cleanup_errors=True) as folder:
        work_dir = options.work_dir or Path(folder)
        work_dir.mkdir(parents=True, exist_ok=True)
        page = _Page(work_dir.resolve(), options.first, run)
        runner = web.AppRunner(page.application(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        worker = None
        try:
            site = web.TCPSite(runner, HOST, options.port)
            await _start(site, options.port)
            page.port = int(runner.addresses[0][1])
            async with asyncio.TaskGroup() as tasks:
                worker = tasks.create_task(page.jobs.work())
                page.submit_first()
                yield f"http://{HOST}:{page.port}/{page.token}/"
                worker.cancel()
        finally:
            await runner.cleanup()
            footage.forget_tracks(work_dir, ACTOR_S)


async def _start(site: web.TCPSite, port: int) -> None:
    try:
        await site.start()
    except OSError as error:
        raise OutputError(f"cannot listen on port {port} ({error.strerror}): give another --port") from None


class _Page:
    """State and handlers of one server."""

    def __init__(self, work_dir: Path, first: DemoRequest, run: Callable[..., Any] | None) -> None:
        self.token = secrets.token_urlsafe(18)
        self.port = 0
        self.board = Board()
        self.jobs = Jobs(self.board, self._publish, run) if run else Jobs(self.board, self._publish)
        self._work_dir, self._first = work_dir, first
        self._uploads: dict[str, tuple[Path, ConsentRecord]] = {}
        self._runs: list[str] = []

    def application(self) -> web.Application:
        """Build the routes."""
        app = web.Application(middlewares=[self._guard], client_max_size=64 * 1024)
        root = f"/{self.token}"
        app.add_routes(
            [
                web.get(root + "/{name:|page\\.css|page\\.js}", self._file),
                web.get(root + "/api/state", self._state),
                web.get(root + "/api/choices", self._choices),
                web.post(root + "/api/dub", self._dub),
                web.post(root + "/api/stop", self._stop),
                web.post(root + "/api/footage", self._upload),
                web.delete(root + "/api/footage", self._forget),
                web.get(root + "/media/{run}/{name:source\\.mp4|preview\\.mp4|dubbed\\.mp4}", self._media),
            ]
        )
        return app

    def submit_first(self) -> None:
        """Start with what the command line asked for."""
        self._submit(self._first)

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Refuse other hosts and origins, add the security headers, turn errors into words."""
        hosts = {f"{HOST}:{self.port}", f"localhost:{self.port}"}
        origin = request.headers.get("Origin")
        if request.host not in hosts or (origin is not None and origin not in {f"http://{h}" for h in hosts}):
            return web.Response(
                status=403, text="this page answers only to its own machine", headers=_HEADERS
            )
        try:
            response = await handler(request)
        except InputError as error:
            response = web.json_response({"error": str(error)}, status=400)
        except web.HTTPException as error:
            error.headers.update(_HEADERS)
            raise
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = _FILES[request.match_info["name"]]
        content = await asyncio.to_thread((_WEB / name).read_text, "utf-8")
        return web.Response(text=content, content_type=_TYPES[name], charset="utf-8")

    async def _state(self, request: web.Request) -> web.StreamResponse:
        try:
            after = int(request.query.get("after", "-1"))
        except ValueError:
            raise InputError("`after` is a number") from None
        return web.json_response(await self.board.after(after, POLL_S))

    async def _choices(self, request: web.Request) -> web.StreamResponse:
        """What can be chosen; asked once by the page."""
        every = await asyncio.to_thread(speech.voices)
        first = {code for code, _, _ in FEATURED}
        return web.json_response(
            {
                "featured": [{"code": code, "name": name, "text": text} for code, name, text in FEATURED],
                "voices": [{"code": v.code, "name": v.name} for v in every if v.code not in first],
                "text": DEFAULT_TEXT if self._first.text is None else self._first.text,
                "voice": self._first.voice or DEFAULT_VOICE,
                "portrait": portrait.NAME,
                "statement": STATEMENT,
                "limits": {
                    "upload_bytes": MAX_UPLOAD_BYTES,
                    "text": speech.MAX_TEXT,
                    "min_s": footage.MIN_S,
                    "max_s": footage.MAX_S,
                },
                "own": next(reversed(self._uploads), "given" if self._first.video else None),
                "forgettable": bool(self._uploads),
            }
        )

    async def _dub(self, request: web.Request) -> web.StreamResponse:
        asked = _object(await request.text())
        text, voice = speech.checked_text(_text(asked, "text")), _text(asked, "voice")
        chosen = _text(asked, "footage")
        if chosen == "portrait":
            job = DemoRequest(out_dir=self._work_dir, text=text, voice=voice)
        elif chosen == "given" and self._first.video:
            job = replace(self._first, text=text, voice=voice, audio=None)
        elif chosen in self._uploads:
            video, consent = self._uploads[chosen]
            job = DemoRequest(out_dir=self._work_dir, text=text, voice=voice, video=video, consent=consent)
        else:
            raise InputError("that video is not here any more; record or choose it again")
        self._submit(job)
        return web.json_response({}, status=202)

    async def _stop(self, request: web.Request) -> web.StreamResponse:
        await self.jobs.stop()
        return web.json_response({}, status=202)

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("consent") != "yes":
            raise InputError("tick the box first: without the person's consent nothing is made of the video")
        if (request.content_length or 0) > MAX_UPLOAD_BYTES:
            raise InputError(_too_large())
        consent = _consent(request.query.get("name", ""))
        name = secrets.token_hex(8)
        path = self._work_dir / f"upload-{name}"
        try:
            await _receive(request, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._uploads[name] = (path, consent)
        return web.json_response({"footage": name}, status=201)

    async def _forget(self, request: web.Request) -> web.StreamResponse:
        """Remove the user's videos, what was learnt from them, and every result."""
        await self.jobs.stop(waiting_too=True)
        for video, _ in self._uploads.values():
            video.unlink(missing_ok=True)
        self._uploads.clear()
        for folder in ("own", *(path.name for path in self._work_dir.glob("run-*"))):
            self._remove(folder)
        self._runs.clear()
        self.board.update(result=None, error=None)
        return web.json_response({})

    async def _media(self, request: web.Request) -> web.StreamResponse:
        run = request.match_info["run"]
        if run not in self._runs:
            raise web.HTTPNotFound
        return web.FileResponse(self._work_dir / run / request.match_info["name"], headers=_HEADERS)

    def _submit(self, job: DemoRequest) -> None:
        run = f"run-{secrets.token_hex(6)}"
        self.jobs.submit(replace(job, out_dir=self._work_dir / run, keep_dir=self._work_dir / "own"))

    def _remove(self, folder: str) -> None:
        footage.forget_tracks(self._work_dir / folder, ACTOR_S)
        shutil.rmtree(self._work_dir / folder, ignore_errors=True)

    def _publish(self, request: DemoRequest, result: dict[str, Any]) -> dict[str, Any]:
        """Make a result known to the page and remove the oldest."""
        run, file = request.out_dir.name, Path(result["dubbed"]).name
        if run not in self._runs:
            self._runs.append(run)
        while len(self._runs) > _RESULTS_KEPT:
            self._remove(self._runs.pop(0))
        return {
            "id": f"{run}/{file}",
            "run": run,
            "preview": file == "preview.mp4",
            "source": f"media/{run}/source.mp4",
            "dubbed": f"media/{run}/{file}",
            "report": result["report"],
        }


async def _receive(request: web.Request, path: Path) -> None:
    """Write the body to a file that only this user can read."""
    received = 0
    await asyncio.to_thread(path.touch, 0o600)
    with path.open("wb") as file:
        async for block in request.content.iter_chunked(1 << 18):
            received += len(block)
            if received > MAX_UPLOAD_BYTES:
                raise InputError(_too_large())
            await asyncio.to_thread(file.write, block)
    if received == 0:
        raise InputError("the video is empty")


def _too_large() -> str:
    return f"the video is larger than {MAX_UPLOAD_BYTES >> 20} MB; a shorter piece is enough"


def _consent(name: str) -> ConsentRecord:
    """The record of the ticked box."""
    try:
        return ConsentRecord(
            subject=name.strip()[:200] or "the person in the video (no name given)",
            granted_by="the user of the demonstration, by ticking the statement",
            purpose="demonstration of livedub on the user's own machine",
            languages=(ANY_LANGUAGE,),
            granted_at=datetime.now(UTC).isoformat(),
            expires_at=None,
            statement=STATEMENT,
        )
    except ValueError as error:
        raise InputError(f"the name cannot be recorded: {error}") from None


def _object(body: str) -> dict[str, Any]:
    with suppress(ValueError):
        content = json.loads(body)
        if isinstance(content, dict):
            return content
    raise InputError("the request is no JSON object")


def _text(content: dict[str, Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str):
        raise InputError(f"`{key}` is missing")
    return value
