"""Who can be dubbed, what can be played, and new actors from recorded videos."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from engine.actor.pack import read_pack
from engine.errors import ActorPackError, InputError
from streaming.server.context import address_of, json_response, own_session, require, server_of
from streaming.server.enrol import STATEMENT, consent_of
from streaming.server.limits import TooLargeError
from streaming.server.manager import UnknownSessionError, checked_name

POLL_S = 20.0
PROGRAMME_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
_LOG = logging.getLogger(__name__)


def actors() -> list[web.RouteDef]:
    """What to serve."""
    return [
        web.get("/v1/actors", _actors),
        web.get("/v1/programmes/{programme}", _programme),
        web.post("/v1/actors/{actor}", _enrol),
        web.delete("/v1/actors/{actor}", _forget),
        web.get("/v1/enrolments/{enrolment}", _enrolment),
        web.delete("/v1/enrolments/{enrolment}", _cancel),
    ]


async def _actors(request: web.Request) -> web.Response:
    """Who can be dubbed, and what else a page needs to know; asked once by it."""
    server = server_of(request)
    require(request, "view", own_session(request))
    config = server.config
    return json_response(
        {
            "actors": await asyncio.to_thread(_packs, config.actors.folder),
            "programmes": await asyncio.to_thread(programmes, config.programmes.folders),
            "enrol": server.enrolments is not None,
            "speak": server.speak is not None,
            "statement": STATEMENT,
            "defaults": {
                "look_ahead_ms": config.sessions.look_ahead_ms,
                "latency_budget_ms": config.sessions.latency_budget_ms,
                "original_delay_ms": config.sessions.original_delay_ms,
                "idle": config.sessions.idle,
            },
            "limits": {
                "upload_bytes": config.actors.upload_bytes,
                "text": server.speak.max_text if server.speak else 0,
            },
            "ice_servers": config.ice.servers,
        }
    )


async def _programme(request: web.Request) -> web.StreamResponse:
    """The file itself, for a page that shows it beside the dub."""
    server, name = server_of(request), request.match_info["programme"]
    require(request, "view", own_session(request))
    folders = server.config.programmes.folders
    if name not in await asyncio.to_thread(programmes, folders):
        raise web.HTTPNotFound(reason="there is no such programme")
    path = next(folder / name for folder in folders if (folder / name).is_file())
    return web.FileResponse(path)


async def _enrol(request: web.Request) -> web.Response:
    server = server_of(request)
    require(request, "admin")
    server.offers.check(address_of(request))
    enrolments = server.enrolments
    if enrolments is None:
        raise web.HTTPNotImplemented(reason="this server enrols nobody")
    if request.query.get("consent") != "yes":
        raise InputError(
            "without the person's consent nothing is made of the video: consent=yes says it is given"
        )
    if (request.content_length or 0) > server.config.actors.upload_bytes:
        raise TooLargeError(f"the video is larger than {server.config.actors.upload_bytes >> 20} MB")
    consent = consent_of(request.query.get("subject", ""))
    steps = _number(request, "steps")
    body = request.content.iter_chunked(1 << 18)
    enrolment = await enrolments.begin(request.match_info["actor"], body, consent, steps)
    where = f"/v1/enrolments/{enrolment.id}"
    return json_response({"id": enrolment.id, "name": enrolment.name}, 202, {"Location": where})


async def _enrolment(request: web.Request) -> web.Response:
    require(request, "admin")
    enrolments = server_of(request).enrolments
    if enrolments is None:
        raise UnknownSessionError("there is no such enrolment")
    after = _number(request, "after")
    shown = await enrolments.get(request.match_info["enrolment"]).after(
        -1 if after is None else after, POLL_S
    )
    return json_response(shown)


async def _cancel(request: web.Request) -> web.Response:
    require(request, "admin")
    enrolments = server_of(request).enrolments
    if enrolments is None:
        raise UnknownSessionError("there is no such enrolment")
    await enrolments.cancel(request.match_info["enrolment"])
    return web.Response(status=204)


async def _forget(request: web.Request) -> web.Response:
    require(request, "admin")
    enrolments = server_of(request).enrolments
    if enrolments is None:
        raise web.HTTPNotImplemented(reason="this server manages no actors")
    await enrolments.forget(request.match_info["actor"])
    return web.Response(status=204)


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        return int(text[:20])
    except ValueError:
        raise InputError(f"{name!r} is a number") from None


def _packs(folder: Path) -> list[dict[str, object]]:
    """What there is; packs that cannot be read are left out, and logged."""
    found = []
    for path in sorted(folder.glob("*.actor")) if folder.is_dir() else []:
        try:
            checked_name(path.stem)
            manifest = read_pack(path).manifest
        except (ActorPackError, InputError) as error:
            _LOG.warning("%s is left out: %s", path.name, error)
            continue
        found.append(
            {
                "name": path.stem,
                "created": manifest.created,
                "seconds_used": manifest.seconds_used,
                "consent": manifest.consent is not None,
            }
        )
    return found


def programmes(folders: Sequence[Path]) -> list[str]:
    """Names of the videos that lie in these folders, in order of the folders."""
    found = [
        path.name
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in PROGRAMME_ENDINGS and path.is_file()
    ]
    return list(dict.fromkeys(found))
