"""`/v1/stream/{session}`: dub sound in, control in, events out. `messages.py` has the protocol.

Close codes: 1001 the session is over, 1002 not the protocol, 1003 a text frame, 1008 no right, too fast, or
more sound than there was credit for, 1009 a message over 1 MB, 1013 the client reads too slowly.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from aiohttp import WSMsgType, web

from engine.errors import AccessError, CapacityError, InputError, LivedubError, ProtocolError
from streaming.server import messages
from streaming.server.auth import Grant, Role, bearer
from streaming.server.context import ForbiddenError, Server, address_of, server_of
from streaming.server.limits import MAX_MESSAGE_BYTES, Bucket
from streaming.server.manager import SessionLike
from streaming.server.outbox import Outbox
from streaming.types import MEDIA_RATE_HZ, PCM, AudioIn

HELLO_LIMIT_S = 5.0
SLOW_LIMIT_S = 5.0
HEARTBEAT_S = 6.0
CLOSE_LIMIT_S = 1.0
MESSAGES_PER_S = 1000.0
BURST_MESSAGES = 2000.0
_ROLES: tuple[Role, ...] = ("control", "view", "publish")
_LOG = logging.getLogger(__name__)


class Close(IntEnum):
    """Why a connection is closed (RFC 6455, section 7.4)."""

    GOING_AWAY = 1001
    PROTOCOL = 1002
    UNSUPPORTED = 1003
    POLICY = 1008
    SLOW = 1013


class Decoder(Protocol):
    """Of Opus packets, one stream."""

    def decode(self, packet: bytes) -> PCM:
        """Return int16 [T] at 48 kHz."""

    def close(self) -> None:
        """Give its memory back."""


class _EndError(Exception):
    """The connection is over; `code` and `why` go into the close frame."""

    def __init__(self, code: Close, why: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why


@dataclass(frozen=True)
class StreamLimits:
    """How patient the server is; tests have less time.

    Attributes:
        hello_s: for the first message, where it must bring the token.
        slow_s: for one message to go out.
        per_s: messages a client may send.
    """

    hello_s: float = HELLO_LIMIT_S
    slow_s: float = SLOW_LIMIT_S
    per_s: float = MESSAGES_PER_S


def stream(limits: StreamLimits | None = None) -> list[web.RouteDef]:
    """What to serve."""
    chosen = limits or StreamLimits()

    async def handler(request: web.Request) -> web.StreamResponse:
        return await _handle(request, chosen)

    return [web.get("/v1/stream/{session}", handler)]


async def _handle(request: web.Request, limits: StreamLimits) -> web.StreamResponse:
    server, name = server_of(request), request.match_info["session"]
    token = _offered_token(request)
    grant = None
    if token is not None or server.gate.is_open:
        grant = _checked(server, token, name)
    socket = web.WebSocketResponse(
        protocols=(messages.SUBPROTOCOL,),
        heartbeat=HEARTBEAT_S,
        max_msg_size=MAX_MESSAGE_BYTES,
        compress=False,  # else a small frame could unpack to anything
        timeout=CLOSE_LIMIT_S,
        autoping=True,
    )
    if not socket.can_prepare(request).ok:
        raise web.HTTPUpgradeRequired(reason="this address speaks WebSocket")
    address = address_of(request)
    server.sockets.take(address)
    try:
        with server.sessions.hold(name) as session:
            with nullcontext() if grant is None else server.gate.joining(grant, "stream"):
                await socket.prepare(request)
            await _Connection(server, session, socket, limits).run(grant)
    finally:
        server.sockets.give_back(address)
        if request.transport is not None and socket.prepared and not socket.closed:
            request.transport.abort()
    return socket


def _offered_token(request: web.Request) -> str | None:
    """From the header, or from a subprotocol; the server never echoes that one."""
    token = bearer(request.headers.get("Authorization"))
    if token is not None:
        return token
    offered = (part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(","))
    return next(
        (p[len(messages.TOKEN_PREFIX) :] for p in offered if p.startswith(messages.TOKEN_PREFIX)), None
    )


def _checked(server: Server, token: str | None, session: str) -> Grant:
    grant = server.gate.check(token)
    if not any(grant.allows(role, session) for role in _ROLES):
        raise ForbiddenError("the token is not for this session")
    return grant


class _Connection:
    """One client."""

    def __init__(
        self,
        server: Server,
        session: SessionLike,
        socket: web.WebSocketResponse,
        limits: StreamLimits,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server, self._session, self._socket, self._limits = server, session, socket, limits
        self._clock_s = clock_s
        self._outbox = Outbox()
        self._bucket = Bucket(limits.per_s, limits.per_s * BURST_MESSAGES / MESSAGES_PER_S, clock_s())
        self._received = 0  # samples at 48 kHz
        self._left = 0
        self._utterance: int | None = None
        self._seq = 0
        self._opus: Decoder | None = None
        self._grant: Grant | None = None

    async def run(self, grant: Grant | None) -> None:
        """Serve the client until either side has had enough."""
        code, why = Close.GOING_AWAY, "the session is over"
        try:
            self._grant = grant or await self._hello()
            await self._serve()
        except* _EndError as group:
            code, why = _first(group).code, _first(group).why
        finally:
            if self._opus is not None:
                self._opus.close()
        self._server.metrics.events_dropped(self._outbox.dropped)
        if not self._socket.closed:
            if code is not Close.GOING_AWAY:
                _LOG.info("a stream of %s ends: %d %s", self._session.id, code, why)
            await self._close(code, why)

    async def _serve(self) -> None:
        self._left = max(0, self._session.room)
        options = self._session.options
        self._outbox.reply(
            "welcome",
            session=self._session.id,
            roles=sorted(self._grant.roles) if self._grant else [],
            until=self._left,
            look_ahead_ms=options.look_ahead_ms,
            latency_budget_ms=options.latency_budget_ms,
            original_delay_ms=options.original_delay_ms,
            idle=options.idle,
        )
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(self._write()), tasks.create_task(self._watch())]
            await self._read()
            for task in others:
                task.cancel()

    async def _hello(self) -> Grant:
        """The token in the first message."""
        try:
            async with asyncio.timeout(self._limits.hello_s):
                frame = await self._socket.receive()
        except TimeoutError:
            raise _EndError(Close.POLICY, "no token came") from None
        if frame.type is not WSMsgType.BINARY:
            raise _EndError(Close.POLICY, "the first message brings the token")
        message = self._decoded(frame.data)
        token = message.token if isinstance(message, messages.Hello) else None
        try:
            grant = _checked(self._server, token, self._session.id)
            with self._server.gate.joining(grant, "stream"):
                return grant
        except AccessError as error:
            raise _EndError(Close.POLICY, str(error)) from None
        except CapacityError as error:
            raise _EndError(Close.SLOW, str(error)) from None

    async def _read(self) -> None:
        async for frame in self._socket:
            if frame.type is WSMsgType.TEXT:
                raise _EndError(Close.UNSUPPORTED, "messages are binary")
            if frame.type is not WSMsgType.BINARY:
                return  # a broken frame: it has been answered with 1002 or 1009
            if self._bucket.take(self._clock_s()) > 0:
                raise _EndError(Close.POLICY, "too many messages a second")
            message = self._decoded(frame.data)
            try:
                await self._take(message)
            except ProtocolError as error:
                raise _EndError(Close.POLICY, str(error)) from None
            except LivedubError as error:
                code = "refused" if isinstance(error, InputError) else "failed"
                self._outbox.reply("error", re=message.seq, code=code, message=str(error))
            await asyncio.sleep(0)  # a burst that has arrived already must not hold the others

    async def _write(self) -> None:
        while True:
            kind, fields = await self._outbox.get()
            if self._outbox.overflown:
                raise _EndError(Close.SLOW, "too many answers were not read")
            data = messages.encode(kind, self._seq, fields)
            self._seq += 1
            try:
                async with asyncio.timeout(self._limits.slow_s):
                    await self._socket.send_bytes(data)
            except TimeoutError:
                raise _EndError(Close.SLOW, "the client reads too slowly") from None
            except ConnectionError:
                return  # the reader sees the end, too

    async def _watch(self) -> None:
        async for event in self._session.events():
            if event.kind == "credit":  # the room as it is now: sound may have come since
                self._give_credit(self._session.room)
            else:
                self._outbox.event(event)
        raise _EndError(Close.GOING_AWAY, "the session is over")

    async def _take(self, message: messages.Message) -> None:
        """Do what a message asks for.

        Raises:
            ProtocolError: it breaks the rules; this ends the connection.
            LivedubError: it cannot be done; the client is told.
        """
        if isinstance(message, messages.Hello | messages.Ping):
            self._outbox.reply("done", re=message.seq)
            return
        if self._grant is None or not self._grant.allows("control", self._session.id):
            raise AccessError("the token gives no right to control this session")
        match message:
            case messages.Audio():
                await self._take_audio(message)
            case messages.Begin():
                self._utterance = message.utterance
            case messages.End():
                await self._end(message.utterance)
            case messages.Flush():
                await self._end(None)
            case messages.Interrupt():
                await self._interrupt(message.seq)

    async def _take_audio(self, message: messages.Audio) -> None:
        piece = self._sound(message)
        if not len(piece.samples):
            return
        counted = -(-len(piece.samples) * MEDIA_RATE_HZ // piece.rate_hz)
        if counted > max(self._left, MEDIA_RATE_HZ // 10):  # a tenth of a second for who counts otherwise
            raise ProtocolError("more sound than there was credit for")
        utterance = self._utterance if message.utterance is None else message.utterance
        left = await self._session.dub(piece, utterance)
        self._received += counted
        self._give_credit(left)

    async def _end(self, utterance: int | None) -> None:
        await self._session.end_utterance(self._utterance if utterance is None else utterance)
        if utterance in {None, self._utterance}:
            self._utterance = None

    async def _interrupt(self, seq: int) -> None:
        played = await self._session.interrupt()
        self._utterance = None
        self._outbox.reply(
            "playback",
            re=seq,
            utterance=played.utterance,
            played_ms=played.played_ms,
            dropped_ms=played.dropped_ms,
        )

    def _sound(self, message: messages.Audio) -> AudioIn:
        if message.codec == "opus":
            if not 0 < len(message.data) <= messages.MAX_OPUS_BYTES:
                raise ProtocolError("an Opus packet has 1 to 10,200 bytes")
            if self._opus is None:
                self._opus = _opus_decoder()
            return AudioIn(self._opus.decode(message.data), MEDIA_RATE_HZ)
        if len(message.data) % 2:
            raise ProtocolError("s16 samples have two bytes each")
        samples = np.frombuffer(message.data, "<i2").astype(np.int16, copy=False)
        return AudioIn(samples, message.rate_hz)

    def _decoded(self, data: bytes) -> messages.Message:
        try:
            return messages.decode(data)
        except ProtocolError as error:
            raise _EndError(Close.PROTOCOL, str(error)) from None

    def _give_credit(self, left: int) -> None:
        self._left = max(0, left)
        self._outbox.credit(self._received + self._left)

    async def _close(self, code: Close, why: str) -> None:
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await self._socket.close(code=code, message=why.encode()[:120])
        except TimeoutError:
            return  # the handler cuts the line


def _opus_decoder() -> Decoder:
    from streaming.rtc.opus import OpusDecoder

    return OpusDecoder()


def _first(group: BaseExceptionGroup[_EndError]) -> _EndError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise ValueError("an exception group is never empty")
