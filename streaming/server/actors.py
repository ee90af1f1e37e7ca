"""Who can be dubbed, what can be played, and new actors from recorded videos."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from aiohttp import web

from engine.actor.pack import read_pack
from engine.errors import ActorPackError, InputError
from streaming.server.auth import ANY_SESSION, Grant, bearer
from streaming.server.context import (
    ForbiddenError,
    address_of,
    json_response,
    own_session,
    require,
    server_of,
)
from streaming.server.enrol import STATEMENT, consent_of
from streaming.server.limits import TooLargeError
from streaming.server.manager import UnknownSessionError, checked_name

POLL_S = 20.0
WATCH_COOKIE = "livedub_watch"
PROGRAMME_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
_LOG = logging.getLogger(__name__)


def actors() -> list[web.RouteDef]:
    """What to serve."""
    return [
        web.get("/v1/actors", _actors),
        web.get("/v1/programmes/{programme}", _programme),
        web.post("/v1/programmes/{programme}/watch", _watch),
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
    token = bearer(request.headers.get("Authorization")) or request.cookies.get(WATCH_COOKIE)
    await _may_watch(request, server_of(request).gate.check(token))
    folders, name = server_of(request).config.programmes.folders, request.match_info["programme"]
    path = next(folder / name for folder in folders if (folder / name).is_file())
    return web.FileResponse(path)


async def _watch(request: web.Request) -> web.Response:
    """Let a page show the file: a `<video>` can send no header, so it gets a cookie for this file alone."""
    server = server_of(request)
    grant = server.gate.check(bearer(request.headers.get("Authorization")))
    await _may_watch(request, grant)
    response = web.Response(status=204)
    if not server.gate.is_open:
        token, expires_s = server.gate.to_watch(grant, server.config.access.token_s)
        response.set_cookie(
            WATCH_COOKIE,
            token,
            path=request.rel_url.raw_path.removesuffix("/watch"),
            expires=format_datetime(datetime.fromtimestamp(expires_s, UTC), usegmt=True),
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )
    return response


async def _may_watch(request: web.Request, grant: Grant) -> None:
    """Who may see any session may watch every programme, others that of their session.

    Raises:
        AccessError: the token does not give the right.
        HTTPNotFound: there is no such programme.
    """
    server, name = server_of(request), request.match_info["programme"]
    if not grant.allows("view", grant.session):
        raise ForbiddenError("the token does not give the right to view")
    if grant.session != ANY_SESSION and server.sessions.get(grant.session).options.programme != name:
        raise ForbiddenError("the token is for a session with another picture")
    if name not in await asyncio.to_thread(programmes, server.config.programmes.folders):
        raise web.HTTPNotFound(reason="there is no such programme")


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
