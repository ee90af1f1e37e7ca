"""The browser page: files of one folder, read at the start, with a policy that lets nothing else in."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

MAX_FILE_BYTES = 8 * 2**20
INDEX = "index.html"
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".woff2": "font/woff2",
    ".wav": "audio/wav",
    ".mp4": "video/mp4",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; connect-src 'self'; font-src 'self'; worker-src 'self'; form-action 'none'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(), display-capture=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def page(folder: Path) -> list[web.RouteDef]:
    """What to serve: each file that is there now by its name, and the index at the root."""
    found = {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.suffix in TYPES and path.is_file() and path.stat().st_size <= MAX_FILE_BYTES
    }
    routes = [web.get(f"/{name}", _handler(path)) for name, path in found.items()]
    index = found.get(INDEX)
    return [*routes, web.get("/", _handler(index))] if index else routes


def _handler(path: Path) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        kind = TYPES[path.suffix]
        text = kind.startswith("text/") or kind.endswith("json")
        return web.FileResponse(
            path, headers=HEADERS | {"Content-Type": kind + ("; charset=utf-8" if text else "")}
        )

    return handler
