"""`/v1/sessions/{session}/outputs`: where else a session goes. JSON in and out, for who controls it.

    POST    .../outputs            {"to": "show.mp4" | "rtmp://..." | "https://.../whip/...", "token"?} -> 201
    GET     .../outputs            all that run, and the latest that ended by themselves
    GET     .../outputs/{output}   one of them
    DELETE  .../outputs/{output}   204 once it has ended; a file is whole then

What goes wrong later is told as an event of kind "error", and in the output's state. Paths of addresses and
tokens may be secrets and are never shown.
"""

from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from streaming.server.context import address_of, json_response, read_json, require, server_of
from streaming.server.manager import SessionLike, UnknownOutputError


class NewOutput(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of the POST."""

    to: Annotated[str, Meta(min_length=1, max_length=2048)]
    token: Annotated[str, Meta(max_length=4096, pattern=r"^[!-~]+$")] | None = None

    def __repr__(self) -> str:
        return "NewOutput(...)"


def outputs() -> list[web.RouteDef]:
    """What to serve."""
    every, one = "/v1/sessions/{session}/outputs", "/v1/sessions/{session}/outputs/{output}"
    return [
        web.post(every, _add),
        web.get(every, _list),
        web.get(one, _get),
        web.delete(one, _end),
    ]


async def _add(request: web.Request) -> web.Response:
    server, name = server_of(request), request.match_info["session"]
    require(request, "control", name)
    server.offers.check(address_of(request))
    asked = await read_json(request, NewOutput)
    with server.sessions.hold(name) as session:
        made = await session.add_output(asked.to, asked.token)
        shown = _one(session, made)
    return json_response(shown, 201, {"Location": f"/v1/sessions/{name}/outputs/{made}"})


async def _list(request: web.Request) -> web.Response:
    return json_response({"outputs": list(_session(request).outputs())})


async def _get(request: web.Request) -> web.Response:
    return json_response(_one(_session(request), request.match_info["output"]))


async def _end(request: web.Request) -> web.Response:
    name = request.match_info["session"]
    require(request, "control", name)
    with server_of(request).sessions.hold(name) as session:
        if not await session.end_output(request.match_info["output"]):
            raise UnknownOutputError("there is no such output")
    return web.Response(status=204)


def _session(request: web.Request) -> SessionLike:
    name = request.match_info["session"]
    require(request, "control", name)
    return server_of(request).sessions.get(name)


def _one(session: SessionLike, name: str) -> dict[str, Any]:
    for shown in session.outputs():
        if shown["id"] == name:
            return dict(shown)
    raise UnknownOutputError("there is no such output")
