"""What every handler shares, and the one place where requests are let in and errors become answers."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from engine.errors import (
    AccessError,
    BackendError,
    CapacityError,
    InputError,
    LivedubError,
)
from streaming.server.auth import Gate, Grant, Role, bearer
from streaming.server.collect import Collector
from streaming.server.config import ServerConfig, is_loopback
from streaming.server.enrol import Enrolments
from streaming.server.limits import (
    MAX_JSON_BYTES,
    AddressCounts,
    AddressRates,
    TooLargeError,
    TooManyError,
    TooSlowError,
    read_body,
)
from streaming.server.manager import (
    SessionExistsError,
    SessionManager,
    UnknownOutputError,
    UnknownSessionError,
)
from streaming.server.metrics import Metrics
from streaming.server.speech import Sentences

RETRY_AFTER_S = 5
EXPOSED = "Location, ETag, Link, Retry-After, Accept-Post"
_SECURITY = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Speak(Protocol):
    """A text-to-speech that runs on this machine."""

    max_text: int

    async def voices(self) -> list[tuple[str, str]]:
        """Code and name of every voice."""

    async def speak(self, text: str, voice: str) -> tuple[NDArray[np.int16], int]:
        """Return the speech, int16 [T], and its rate in Hz.

        Raises:
            InputError: the text or the voice cannot be used.
            BackendError: it failed.
        """


@dataclass
class Server:
    """What the handlers work with.

    Attributes:
        config: of the operator.
        sessions: all that run.
        gate: checks and makes tokens.
        metrics: what is counted.
        enrolments: new actors in the making, None where that is not offered.
        speak: text to speech, None where there is none.
        port: that is listened on; set once it is known.
        sentences: being fed into sessions.
    """

    config: ServerConfig
    sessions: SessionManager
    gate: Gate
    metrics: Metrics
    enrolments: Enrolments | None = None
    speak: Speak | None = None
    port: int = 0
    sentences: Sentences = field(default_factory=Sentences)
    collector: Collector = field(init=False)
    requests: AddressRates = field(init=False)
    offers: AddressRates = field(init=False)
    sockets: AddressCounts = field(init=False)

    def __post_init__(self) -> None:
        limits = self.config.limits
        self.collector = Collector(self.metrics)
        self.requests = AddressRates(limits.requests_per_s)
        self.offers = AddressRates(limits.offers_per_s)
        self.sockets = AddressCounts(limits.per_address)

    @property
    def ice_links(self) -> list[str]:
        """`Link` headers that tell clients of STUN and TURN servers (RFC 9725, section 4.6)."""
        return [f'<{address}>; rel="ice-server"' for address in self.config.ice.servers]


SERVER = web.AppKey("server", Server)


class ForbiddenError(AccessError):
    """A valid token, without the right."""


_STATUS: tuple[tuple[type[LivedubError], int], ...] = (  # the first that fits
    (TooManyError, 429),
    (CapacityError, 503),
    (ForbiddenError, 403),
    (AccessError, 401),
    (UnknownSessionError, 404),
    (UnknownOutputError, 404),
    (SessionExistsError, 409),
    (TooLargeError, 413),
    (TooSlowError, 408),
    (InputError, 400),
    (BackendError, 503),
)


def server_of(request: web.Request) -> Server:
    """The server that a request came to."""
    return request.app[SERVER]


def address_of(request: web.Request) -> str:
    """Who asks, as far as the socket knows; headers of proxies are not believed."""
    return request.remote or ""


def require(request: web.Request, role: Role, session: str | None = None, *, grace_s: float = 0.0) -> Grant:
    """Let the request go on only with a token for that.

    Raises:
        AccessError: none (401), or without the right (403).
    """
    grant = server_of(request).gate.check(bearer(request.headers.get("Authorization")), grace_s=grace_s)
    if not grant.allows(role, session):
        raise ForbiddenError(f"the token does not give the right to {role} here")
    return grant


def own_session(request: web.Request) -> str | None:
    """The session that the request's token is for; for what concerns no single one.

    Raises:
        AccessError: no valid token.
    """
    return server_of(request).gate.check(bearer(request.headers.get("Authorization"))).session


async def read_json(request: web.Request, kind: type[_T]) -> _T:
    """Return the body as a typed value.

    Raises:
        TooLargeError: it is larger than 64 kB.
        InputError: it is no such value.
    """
    body = await read_body(request, MAX_JSON_BYTES)
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the body is not what this takes: {error}") from None


def json_response(content: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """An answer of plain values."""
    return web.Response(
        body=msgspec.json.encode(content), status=status, content_type="application/json", headers=headers
    )


@web.middleware
async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Refuse strangers, turn errors into answers, add the headers that keep a browser out of trouble."""
    try:
        _let_in(request)
        response = await handler(request)
    except web.HTTPException as error:
        response = _refusal(request, error.status, error.reason, dict(error.headers))
    except LivedubError as error:
        response = _explained(request, error)
    except ConnectionError:  # the client went away
        raise
    # The boundary: what a client sends must never stop the server, nor show what is inside.
    except Exception as error:  # noqa: BLE001
        where = _place(error)
        _LOG.error("%s %s failed: %s at %s", request.method, _route(request), type(error).__name__, where)
        response = _refusal(request, 500, "the server failed at this; its log says where")
    if not response.prepared:
        _add_headers(request, response)
    return response


def _let_in(request: web.Request) -> None:
    server = server_of(request)
    server.requests.check(address_of(request))
    if not _own_host(server, request.host):
        raise web.HTTPForbidden(reason="this server is not known by that name; see server.hosts")
    origin = request.headers.get("Origin")
    if origin is not None and not _may_come(server, request, origin):
        raise web.HTTPForbidden(reason="other pages may not use this server; see server.origins")


def _own_host(server: Server, host: str) -> bool:
    """Whether a `Host` names us: a page elsewhere could have let its own name point here (DNS rebinding)."""
    name = (urlsplit(f"//{host}").hostname or "") if host else ""
    listen = server.config.server
    if is_loopback(listen.host) and not listen.hosts:
        return is_loopback(name)
    return not listen.hosts or name in listen.hosts or name == listen.host or is_loopback(name)


def _may_come(server: Server, request: web.Request, origin: str) -> bool:
    secure = server.config.server.tls_certificate is not None
    own = {f"{'https' if secure else 'http'}://{request.host}"}
    if server.config.server.hosts:  # a proxy before us may speak TLS
        own.add(f"https://{request.host}")
    return origin in own or origin in server.config.server.origins


def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _SECURITY.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "livedub"
    origin = request.headers.get("Origin")
    if origin and origin in server_of(request).config.server.origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers["Vary"] = "Origin"


def _explained(request: web.Request, error: LivedubError) -> web.Response:
    """The answer for one of our errors."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = {}
    if isinstance(error, CapacityError):
        headers["Retry-After"] = str(error.retry_after_s)
    elif status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    elif status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="livedub"'
    if not isinstance(error, InputError | CapacityError):
        _LOG.warning("%s %s: %s", request.method, _route(request), error)
    return _refusal(request, status, str(error), headers)


def _refusal(
    request: web.Request, status: int, why: str, headers: dict[str, str] | None = None
) -> web.Response:
    kept = {n: v for n, v in (headers or {}).items() if n.lower() not in {"content-type", "content-length"}}
    if status >= 400:
        server_of(request).metrics.refused(status)
    if not request.content.is_eof() and not request.content.at_eof():
        kept["Connection"] = "close"  # the rest of the body is not read
    return json_response({"error": why}, status, kept)


def _route(request: web.Request) -> str:
    """The route's pattern: names of sessions and connections stay out of the logs."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else "(no route)"


def _place(error: BaseException) -> str:
    """File and line where an error arose; its message may quote what the client sent."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "?"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
