"""WHIP (RFC 9725): a publisher's offer by HTTP. What WHEP shares with it is here too.

    OPTIONS /whip/{session}              204, Accept-Post
    POST    /whip/{session}              offer -> 201, answer, Location, ETag, Link
    DELETE  /whip/{session}/{resource}   200, also when it is gone already
    PATCH   /whip/{session}/{resource}   204, takes more candidates; 422 for an ICE restart

Candidates may all come in the offer, or by PATCH as they are found, with `If-Match` naming the connection's
ETag (428 without, 412 if it is another's). Restarts are not spoken: a new offer takes one request, too.
An offer that cannot be accepted is 400, another kind of body 415, no room 503 with Retry-After.
"""

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from engine.errors import OfferError
from streaming.server.context import address_of, require, server_of
from streaming.server.limits import MAX_SDP_BYTES, read_body
from streaming.server.manager import SessionLike, UnknownSessionError
from streaming.types import Answer

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
MAX_ISSUED = 4096
_RESOURCE_METHODS = "DELETE, OPTIONS, PATCH"
_ENDPOINT_METHODS = "OPTIONS, POST"
_WILDCARDS = {SDP, "application/*", "*/*"}
_QUALITY_ZERO = re.compile(r";\s*q\s*=\s*0(\.0{0,3})?\s*(;|$)")
_USER = re.compile(r"^a=ice-ufrag:(\S+)", re.MULTILINE)
_Accept = Callable[[SessionLike, str], Awaitable[Answer]]


@dataclass(frozen=True)
class _Issued:
    """What a connection is known by later: its entity-tag, and the client's ICE user names."""

    etag: str
    users: frozenset[str]


class SdpEndpoint:
    """One of the two: offers come in, connections come out.

    Args:
        protocol: first part of the address.
        role: that a token must give.
        accept: what is done with an offer.
    """

    def __init__(
        self, protocol: Literal["whip", "whep"], role: Literal["publish", "view"], accept: _Accept
    ) -> None:
        self._protocol, self._role, self._accept = protocol, role, accept
        self._issued: OrderedDict[tuple[str, str], _Issued] = OrderedDict()

    def routes(self) -> list[web.RouteDef]:
        """What to serve."""
        endpoint = f"/{self._protocol}/{{session}}"
        resource = endpoint + "/{resource}"
        return [
            web.post(endpoint, self._post),
            web.options(endpoint, self._options),
            web.route("*", endpoint, self._not_here),
            web.delete(resource, self._delete),
            web.patch(resource, self._patch),
            web.options(resource, self._resource_options),
            web.route("*", resource, self._not_on_resource),
        ]

    async def _post(self, request: web.Request) -> web.Response:
        server, name = server_of(request), request.match_info["session"]
        grant = require(request, self._role, name)
        server.offers.check(address_of(request))
        if request.content_type != SDP:
            raise web.HTTPUnsupportedMediaType(reason=f"an offer is {SDP}", headers={"Accept-Post": SDP})
        if not _accepts_sdp(request.headers.getall("Accept", [])):
            raise web.HTTPNotAcceptable(reason=f"the answer is {SDP}")
        offer = _text(await read_body(request, MAX_SDP_BYTES))
        with server.sessions.hold(name) as session, server.gate.joining(grant, self._role):
            answer = await self._accept(session, offer)
        etag = f'"{answer.etag.strip(chr(34))}"'
        self._issued[name, answer.resource] = _Issued(etag, frozenset(_USER.findall(offer)))
        if len(self._issued) > MAX_ISSUED:
            self._issued.popitem(last=False)
        response = web.Response(
            text=answer.sdp,
            status=201,
            content_type=SDP,
            headers={"Location": f"/{self._protocol}/{name}/{answer.resource}", "ETag": etag},
        )
        del response.headers["Content-Type"]  # no charset: the media type has no such parameter
        response.headers["Content-Type"] = SDP
        for link in server.ice_links:
            response.headers.add("Link", link)
        return response

    async def _delete(self, request: web.Request) -> web.Response:
        """End a connection. Whoever could begin it may end it, also after the token's time."""
        server = server_of(request)
        name, resource = request.match_info["session"], request.match_info["resource"]
        require(request, self._role, name, grace_s=server.config.sessions.longest_s)
        if (name, resource) not in self._issued:
            raise UnknownSessionError("there is no such connection")
        with suppress(UnknownSessionError):  # its session is over, and it with it
            await server.sessions.get(name).end(resource)
        return web.Response()

    async def _patch(self, request: web.Request) -> web.Response:
        """Take more of the client's candidates (RFC 9725, section 4.3)."""
        server = server_of(request)
        name, resource = request.match_info["session"], request.match_info["resource"]
        require(request, self._role, name, grace_s=server.config.sessions.longest_s)
        issued = self._issued.get((name, resource))
        if issued is None:
            raise UnknownSessionError("there is no such connection")
        if request.content_type != FRAGMENT:
            raise web.HTTPUnsupportedMediaType(
                reason=f"candidates come as {FRAGMENT}", headers={"Accept-Patch": FRAGMENT}
            )
        tags = _tags(request.headers.getall("If-Match", []))
        if not tags:
            raise web.HTTPPreconditionRequired(reason="If-Match must name the ETag of the connection")
        fragment = _text(await read_body(request, MAX_SDP_BYTES))
        users = frozenset(_USER.findall(fragment))
        if not users:
            raise OfferError("the fragment lacks ICE credentials")
        if not tags & {issued.etag, "*"}:
            raise web.HTTPPreconditionFailed(reason="this connection has another ETag")
        if not users <= issued.users:
            raise web.HTTPUnprocessableEntity(reason="ICE cannot be restarted here: make a new connection")
        if not await server.sessions.get(name).trickle(resource, fragment):
            raise UnknownSessionError("this connection is over")
        return web.Response(status=204)

    async def _options(self, request: web.Request) -> web.Response:
        return _preflight(request, _ENDPOINT_METHODS, {"Accept-Post": SDP})

    async def _resource_options(self, request: web.Request) -> web.Response:
        return _preflight(request, _RESOURCE_METHODS, {"Accept-Patch": FRAGMENT})

    async def _not_here(self, request: web.Request) -> web.Response:
        raise web.HTTPMethodNotAllowed(request.method, _ENDPOINT_METHODS.split(", "))

    async def _not_on_resource(self, request: web.Request) -> web.Response:
        raise web.HTTPMethodNotAllowed(request.method, _RESOURCE_METHODS.split(", "))


def whip() -> SdpEndpoint:
    """The publisher's side."""
    return SdpEndpoint("whip", "publish", lambda session, offer: session.publish(offer))


def _preflight(request: web.Request, methods: str, headers: dict[str, str]) -> web.Response:
    """Answer to OPTIONS. A browser of another origin is let through only if the operator names it."""
    headers = {"Allow": methods} | headers
    origin = request.headers.get("Origin")
    if origin and origin in server_of(request).config.server.origins:
        headers["Access-Control-Allow-Methods"] = methods
        headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, If-Match"
        headers["Access-Control-Max-Age"] = "600"
    return web.Response(status=204, headers=headers)


def _accepts_sdp(accepts: list[str]) -> bool:
    """Whether `Accept` lets an answer through; no header lets everything through."""
    wanted = [part.strip() for header in accepts for part in header.split(",") if part.strip()]
    return not wanted or any(
        part.partition(";")[0].strip().lower() in _WILDCARDS and not _QUALITY_ZERO.search(part)
        for part in wanted
    )


def _tags(wanted: list[str]) -> set[str]:
    return {tag for header in wanted for part in header.split(",") if (tag := part.strip())}


def _text(body: bytes) -> str:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise OfferError("the offer is not UTF-8") from None
    if not text.strip():
        raise OfferError("the offer is empty")
    return text
