"""WHIP (RFC 9725): a publisher's offer by HTTP. What WHEP shares with it is here too.

    OPTIONS /whip/{session}              204, Accept-Post
    POST    /whip/{session}              offer -> 201, answer, Location, ETag, Link
    DELETE  /whip/{session}/{resource}   200, also when it is gone already
    PATCH   /whip/{session}/{resource}   405: no trickle ICE, no ICE restarts; candidates come in the offer

An offer that cannot be accepted is 400, another kind of body 415, no room 503 with Retry-After.
"""

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

from aiohttp import web

from engine.errors import OfferError
from streaming.server.context import address_of, require, server_of
from streaming.server.limits import MAX_SDP_BYTES, read_body
from streaming.server.manager import SessionLike, UnknownSessionError
from streaming.types import Answer

SDP = "application/sdp"
MAX_ISSUED = 4096
_RESOURCE_METHODS = "DELETE, OPTIONS"
_ENDPOINT_METHODS = "OPTIONS, POST"
_WILDCARDS = {SDP, "application/*", "*/*"}
_QUALITY_ZERO = re.compile(r";\s*q\s*=\s*0(\.0{0,3})?\s*(;|$)")
_Accept = Callable[[SessionLike, str], Awaitable[Answer]]


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
        self._issued: OrderedDict[tuple[str, str], None] = OrderedDict()

    def routes(self) -> list[web.RouteDef]:
        """What to serve."""
        endpoint = f"/{self._protocol}/{{session}}"
        resource = endpoint + "/{resource}"
        return [
            web.post(endpoint, self._post),
            web.options(endpoint, self._options),
            web.route("*", endpoint, self._not_here),
            web.delete(resource, self._delete),
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
        self._issued[name, answer.resource] = None
        if len(self._issued) > MAX_ISSUED:
            self._issued.popitem(last=False)
        response = web.Response(
            text=answer.sdp,
            status=201,
            content_type=SDP,
            headers={
                "Location": f"/{self._protocol}/{name}/{answer.resource}",
                "ETag": f'"{answer.etag.strip(chr(34))}"',
            },
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

    async def _options(self, request: web.Request) -> web.Response:
        return _preflight(request, _ENDPOINT_METHODS, {"Accept-Post": SDP})

    async def _resource_options(self, request: web.Request) -> web.Response:
        return _preflight(request, _RESOURCE_METHODS, {})

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


def _text(body: bytes) -> str:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise OfferError("the offer is not UTF-8") from None
    if not text.strip():
        raise OfferError("the offer is empty")
    return text
