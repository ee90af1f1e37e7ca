"""`/v1/...`: sessions, their tokens, what clients measured, typed text. JSON in and out."""

import asyncio
import logging
from dataclasses import fields, replace
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from engine.composite.mark import Mark
from engine.errors import AccessError, CapacityError, InputError
from streaming.server.auth import ANY_SESSION, ROLES, Role
from streaming.server.context import (
    ForbiddenError,
    Server,
    address_of,
    json_response,
    own_session,
    read_json,
    require,
    server_of,
)
from streaming.server.manager import SessionLike, checked_name
from streaming.types import IdlePolicy, SessionOptions, VoiceSource

LOOK_AHEADS_MS = (0, 60, 120, 240)
SESSION_OPTIONS = {field.name for field in fields(SessionOptions)} - {"actor"}
JOIN_ROLES = ("control", "publish", "view")
_LOG = logging.getLogger(__name__)
Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
Seconds = Annotated[float, Meta(ge=-60.0, le=600.0)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class NewSession(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/sessions`; what is left out is as the operator set it."""

    actor: str
    id: str | None = None
    voice: VoiceSource = "socket"
    programme: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    look_ahead_ms: int | None = None
    latency_budget_ms: Milliseconds | None = None
    original_delay_ms: Milliseconds | None = None
    idle: IdlePolicy | None = None
    backend: str | None = None
    precision: str | None = None
    mark: Mark | None = None


class NewToken(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/sessions/{session}/tokens`."""

    roles: tuple[Role, ...] = ("publish", "view", "control")
    ttl_s: Annotated[int, Meta(ge=1, le=24 * 3600)] | None = None
    once: bool = False


class ClientStats(Struct, frozen=True):
    """Body of `POST /v1/sessions/{session}/stats`: what a client measured since its last report."""

    g2g_s: Seconds | None = None
    mouth_latency_s: Seconds | None = None
    av_skew_s: Seconds | None = None
    ttff_s: Seconds | None = None
    jitter_buffer_s: Seconds | None = None
    freezes: Count = 0
    frames_decoded: Count = 0
    frames_dropped: Count = 0


class Sentence(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/sessions/{session}/speak`."""

    text: str
    voice: str = "en-us+f3"


def rest() -> list[web.RouteDef]:
    """What to serve."""
    one = "/v1/sessions/{session}"
    return [
        web.get("/v1/sessions", _list),
        web.post("/v1/sessions", _create),
        web.get(one, _get),
        web.delete(one, _delete),
        web.post(one + "/tokens", _token),
        web.post(one + "/stats", _stats),
        web.post(one + "/interrupt", _interrupt),
        web.post(one + "/speak", _speak),
        web.get("/v1/voices", _voices),
        web.get("/healthz", _health),
        web.get("/readyz", _ready),
        web.get("/metrics", _metrics),
    ]


async def _list(request: web.Request) -> web.Response:
    require(request, "admin")
    sessions = server_of(request).sessions
    return json_response({"sessions": [_shown(one) for one in sessions], "capacity": sessions.capacity})


async def _create(request: web.Request) -> web.Response:
    server = server_of(request)
    require(request, "admin")
    server.offers.check(address_of(request))
    asked = await read_json(request, NewSession)
    session = await server.sessions.create(_options(server, asked), asked.id)
    content = _shown(session)
    if not server.gate.is_open:
        token, expires_s = server.gate.mint(JOIN_ROLES, session.id, server.config.access.token_s)
        content |= {"token": token, "expires_s": expires_s}
    return json_response(content, 201, {"Location": f"/v1/sessions/{session.id}"})


async def _get(request: web.Request) -> web.Response:
    name = request.match_info["session"]
    require(request, "view", name)
    session = server_of(request).sessions.get(name)
    return json_response(
        _shown(session) | {"now": msgspec.to_builtins(dict(session.snapshot()), enc_hook=str)}
    )


async def _delete(request: web.Request) -> web.Response:
    name = request.match_info["session"]
    require(request, "control", name)
    await server_of(request).sessions.delete(name)
    return web.Response(status=204)


async def _token(request: web.Request) -> web.Response:
    """A token for a session, with no more rights than who asks for it has."""
    server, name = server_of(request), request.match_info["session"]
    grant = require(request, "view", name)
    asked = await read_json(request, NewToken)
    server.sessions.get(name)
    if grant.once:
        raise ForbiddenError("a token for one connection makes no other tokens")
    if not all(grant.allows(role, name) for role in asked.roles) or (
        "admin" in asked.roles and grant.session != ANY_SESSION
    ):
        raise AccessError("a token can give no more rights than the one it is asked for with")
    life_s = float(asked.ttl_s or server.config.access.token_s)
    if "admin" not in grant.roles:
        life_s = min(life_s, server.config.access.token_s)
    token, expires_s = server.gate.mint(set(asked.roles) & ROLES, name, life_s, once=asked.once)
    return json_response({"token": token, "expires_s": expires_s}, 201)


async def _stats(request: web.Request) -> web.Response:
    server, name = server_of(request), request.match_info["session"]
    require(request, "view", name)
    server.sessions.get(name)
    stats = await read_json(request, ClientStats)
    metrics = server.metrics
    for seconds, observe in (
        (stats.g2g_s, metrics.g2g),
        (stats.mouth_latency_s, metrics.mouth_latency),
        (stats.av_skew_s, metrics.skew),
        (stats.ttff_s, metrics.ttff),
    ):
        if seconds is not None:
            observe(seconds)
    metrics.freezes(stats.freezes)
    return web.Response(status=204)


async def _interrupt(request: web.Request) -> web.Response:
    name = request.match_info["session"]
    require(request, "control", name)
    return json_response(await server_of(request).sessions.get(name).interrupt())


async def _speak(request: web.Request) -> web.Response:
    """Typed text becomes dub sound; the answer comes once it is made, the sound goes on on its own."""
    server, name = server_of(request), request.match_info["session"]
    require(request, "control", name)
    server.offers.check(address_of(request))
    if server.speak is None:
        raise web.HTTPNotImplemented(reason="this server has no text-to-speech")
    asked = await read_json(request, Sentence)
    session = server.sessions.get(name)
    if session.options.voice == "publisher":
        raise InputError("the voice of this session comes with its picture: it cannot be typed")
    samples, rate_hz = await server.speak.speak(asked.text, asked.voice)
    utterance = server.sentences.say(session, samples, rate_hz)
    return json_response({"utterance": utterance, "duration_ms": 1000 * len(samples) // rate_hz}, 202)


async def _voices(request: web.Request) -> web.Response:
    server = server_of(request)
    require(request, "view", own_session(request))
    found = await server.speak.voices() if server.speak else []
    return json_response({"voices": [{"code": code, "name": name} for code, name in found]})


async def _health(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _ready(request: web.Request) -> web.Response:
    if not server_of(request).sessions.has_room:
        raise CapacityError("no room for another session")
    return web.Response(text="ready\n")


async def _metrics(request: web.Request) -> web.Response:
    server = server_of(request)
    require(request, "admin")
    server.collector.read(server.sessions)
    server.metrics.tasks(len(asyncio.all_tasks()))
    return web.Response(
        body=server.metrics.exposition(), headers={"Content-Type": server.metrics.content_type}
    )


def _options(server: Server, asked: NewSession) -> SessionOptions:
    """What was asked, over what the operator set."""
    path = server.config.actors.folder / f"{checked_name(asked.actor)}.actor"
    if not path.is_file():
        raise InputError(f"there is no actor {asked.actor!r}; GET /v1/actors names them")
    if asked.look_ahead_ms is not None and asked.look_ahead_ms not in LOOK_AHEADS_MS:
        raise InputError(f"look_ahead_ms must be one of {', '.join(map(str, LOOK_AHEADS_MS))}")
    options = server.config.sessions.options(path)
    given = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not None}
    return replace(options, **{name: given[name] for name in SESSION_OPTIONS if name in given})


def _shown(session: SessionLike) -> dict[str, Any]:
    options, name = session.options, session.id
    return {
        "id": name,
        "actor": options.actor.stem,
        "look_ahead_ms": options.look_ahead_ms,
        "latency_budget_ms": options.latency_budget_ms,
        "original_delay_ms": options.original_delay_ms,
        "idle": options.idle,
        "voice": options.voice,
        "mark": options.mark,
        "programme": _programme_name(options.programme),
        "peers": session.peers,
        "whip": f"/whip/{name}",
        "whep": f"/whep/{name}",
        "stream": f"/v1/stream/{name}",
    }


def _programme_name(programme: str | None) -> str | None:
    """What is told of a programme: an address may hold a password."""
    return programme if programme is None or "://" not in programme else urlsplit(programme).hostname
