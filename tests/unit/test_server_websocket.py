import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import numpy as np
import pytest

from streaming.rtc.opus import OpusDecoder
from streaming.server.config import Access, Listen, Rates, ServerConfig
from streaming.server.limits import MAX_MESSAGE_BYTES
from streaming.server.messages import SUBPROTOCOL
from streaming.server.websocket import StreamLimits
from streaming.types import Event
from tests.support.live_sessions import QUEUE_SAMPLES, MemorySession, Running, scene

SECRET = "s" * 32
Socket = aiohttp.ClientWebSocketResponse
Talk = Callable[[Socket, MemorySession], Awaitable[None]]
SILENT_OPUS = b"\xf8\xff\xfe"  # a frame of silence: CELT, fullband, 20 ms


def packed(kind: str, **fields: Any) -> bytes:
    data: bytes = msgpack.packb({"v": 1, "t": kind, "seq": 7} | fields)
    return data


def pcm(samples: int) -> bytes:
    return np.arange(samples, dtype="<i2").tobytes()


async def receive(socket: Socket, kind: str | None = None) -> dict[str, Any]:
    """The next message, or the next one of a kind."""
    while True:
        message: dict[str, Any] = msgpack.unpackb(await socket.receive_bytes())
        assert message["v"] == 1
        if kind in {None, message["t"]}:
            return message


async def closing(socket: Socket) -> int:
    """The code that the server closes with."""
    while True:
        frame = await socket.receive()
        if frame.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}:
            return socket.close_code or 0


def talk(tmp_path: Path, talking: Talk, config: ServerConfig | None = None, **parts: Any) -> None:
    """Connect to a session and talk to it."""

    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        async with server.client.ws_connect(
            server.url + "/v1/stream/show",
            protocols=(SUBPROTOCOL,),
            timeout=aiohttp.ClientWSTimeout(ws_close=1),
        ) as socket:
            assert socket.protocol == SUBPROTOCOL
            await talking(socket, session)

    scene(tmp_path, scenario, config, **parts)


def test_a_client_is_welcomed_with_credit(tmp_path: Path) -> None:
    async def talking(socket: Socket, session: MemorySession) -> None:
        welcome = await receive(socket)
        assert (welcome["t"], welcome["seq"], welcome["session"]) == ("welcome", 0, "show")
        assert welcome["until"] == QUEUE_SAMPLES
        assert welcome["latency_budget_ms"] == 400
        await socket.send_bytes(packed("ping"))
        assert await receive(socket) == {"v": 1, "t": "done", "seq": 1, "re": 7}

    talk(tmp_path, talking)


def test_sound_of_any_rate_arrives_and_is_counted_at_48_khz(tmp_path: Path) -> None:
    async def talking(socket: Socket, session: MemorySession) -> None:
        await receive(socket)
        await socket.send_bytes(packed("begin", utterance=3))
        await socket.send_bytes(packed("audio", data=pcm(441), rate_hz=22_050))
        await socket.send_bytes(packed("audio", data=pcm(77), rate_hz=8_000, utterance=4))
        await socket.send_bytes(packed("audio", data=SILENT_OPUS, codec="opus"))
        await socket.send_bytes(packed("end"))
        await socket.send_bytes(packed("ping"))
        await receive(socket, "done")
        first, second, third = session.pieces
        np.testing.assert_array_equal(first[0].samples, np.arange(441, dtype=np.int16))
        assert (first[0].rate_hz, first[0].captured_ns, first[1]) == (22_050, None, 3)
        assert (second[0].rate_hz, len(second[0].samples), second[1]) == (8_000, 77, 4)
        assert (third[0].rate_hz, third[1]) == (48_000, 3)
        np.testing.assert_array_equal(third[0].samples, OpusDecoder().decode(SILENT_OPUS))
        assert session.ended == [3]

    talk(tmp_path, talking)


def test_credit_only_grows_and_playing_gives_more(tmp_path: Path) -> None:
    async def talking(socket: Socket, session: MemorySession) -> None:
        until = (await receive(socket))["until"]
        await socket.send_bytes(packed("audio", data=pcm(48_000)))
        await socket.send_bytes(packed("audio", data=pcm(48_000)))
        await socket.send_bytes(packed("ping"))
        await receive(socket, "done")  # all that was allowed is used, and no more was given
        session.play(4_800)
        assert (await receive(socket, "credit"))["until"] == until + 4_800
        await socket.send_bytes(packed("audio", data=pcm(4_800)))
        await socket.send_bytes(packed("ping"))
        await receive(socket, "done")
        assert len(session.pieces) == 3

    talk(tmp_path, talking)


def test_an_interrupt_says_what_was_heard(tmp_path: Path) -> None:
    async def talking(socket: Socket, session: MemorySession) -> None:
        await socket.send_bytes(packed("audio", data=pcm(48_000), utterance=5))
        await socket.send_bytes(packed("interrupt", seq=9))
        played = await receive(socket, "playback")
        assert (played["re"], played["utterance"], played["dropped_ms"]) == (9, 5, 1000)

    talk(tmp_path, talking)


def test_events_come_with_plain_values(tmp_path: Path) -> None:
    async def talking(socket: Socket, session: MemorySession) -> None:
        await receive(socket)
        await socket.send_bytes(packed("ping"))
        await receive(socket)
        session.tell(Event("latency", {"mouth_ms": np.float32(1.5), "stages": {"tracked": 7}}))
        event = await receive(socket)
        assert (event["t"], event["kind"], event["dropped"]) == ("event", "latency", 0)
        assert event["data"] == {"mouth_ms": 1.5, "stages": {"tracked": 7}}

    talk(tmp_path, talking)


def test_the_end_of_the_session_is_the_end_of_the_stream(tmp_path: Path) -> None:
    async def talking(socket: Socket, session: MemorySession) -> None:
        await receive(socket)
        await socket.send_bytes(packed("ping"))
        await receive(socket)
        await session.close("over")
        assert await closing(socket) == 1001

    talk(tmp_path, talking)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", 1002),
        (b"\xc1", 1002),
        (b"\x93\x01\x02", 1002),
        (msgpack.packb([1, 2]), 1002),
        (msgpack.packb({1: 2}), 1002),
        (msgpack.packb({"v": 1, "t": "ping", "seq": msgpack.Timestamp(1)}), 1002),
        (msgpack.packb({"v": 2, "t": "ping", "seq": 1}), 1002),
        (packed("dance"), 1002),
        (packed("audio"), 1002),
        (packed("audio", data=b"\0\0", rate_hz=7_999), 1002),
        (packed("audio", data="text"), 1002),
        (packed("ping", seq=-1), 1002),
        (packed("begin", utterance=1.5), 1002),
        (packed("config", idle="closed"), 1002),
        (packed("audio", data=b"\0"), 1008),
        (packed("audio", data=b"", codec="opus"), 1008),
        (packed("audio", data=bytes(4 * QUEUE_SAMPLES)), 1008),
        (b"\xc4" + bytes(MAX_MESSAGE_BYTES), 1009),
    ],
    ids=range(18),
)
def test_what_breaks_the_protocol_ends_the_connection(data: bytes, code: int, tmp_path: Path) -> None:
    async def talking(socket: Socket, session: MemorySession) -> None:
        await socket.send_bytes(data)
        assert await closing(socket) == code
        assert session.pieces == []

    talk(tmp_path, talking)


def test_text_is_not_spoken(tmp_path: Path) -> None:
    async def talking(socket: Socket, session: MemorySession) -> None:
        await socket.send_str("{}")
        assert await closing(socket) == 1003

    talk(tmp_path, talking)


def test_too_many_messages_end_the_connection(tmp_path: Path) -> None:
    async def talking(socket: Socket, session: MemorySession) -> None:
        for _ in range(50):
            await socket.send_bytes(packed("begin", utterance=1))
        assert await closing(socket) == 1008

    talk(tmp_path, talking, stream_limits=StreamLimits(per_s=5))


def test_a_client_that_does_not_read_is_dropped_and_costs_little(tmp_path: Path) -> None:
    async def talking(socket: Socket, session: MemorySession) -> None:
        await receive(socket)
        transport = socket._conn.transport if socket._conn else None
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()
        big = Event("latency", {"text": "x" * 100_000})
        while session._watchers:  # until the server has let go
            session.tell(big)
            await asyncio.sleep(0.002)
        transport.resume_reading()
        assert await closing(socket) in {1006, 1013}

    talk(tmp_path, talking, stream_limits=StreamLimits(slow_s=0.2))


def test_tokens_come_by_header_subprotocol_or_first_message(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        url = server.url + "/v1/stream/show"
        control = server.server.gate.mint(["control"], "show", 60)[0]
        other = server.server.gate.mint(["control"], "other", 60)[0]

        async with server.client.ws_connect(url, headers={"Authorization": f"Bearer {control}"}) as socket:
            assert (await receive(socket))["roles"] == ["control"]
        async with server.client.ws_connect(url, protocols=(SUBPROTOCOL, f"token.{control}")) as socket:
            assert socket.protocol == SUBPROTOCOL  # and not the token
            assert (await receive(socket))["t"] == "welcome"
        async with server.client.ws_connect(url, protocols=(SUBPROTOCOL,)) as socket:
            await socket.send_bytes(packed("hello", token=control))
            assert (await receive(socket))["t"] == "welcome"
        for first in (packed("hello", token=other), packed("hello"), packed("ping"), b""):
            async with server.client.ws_connect(url) as socket:
                await socket.send_bytes(first)
                assert await closing(socket) in {1002, 1008}
        for token, status in (("x", 401), (other, 403)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await server.client.ws_connect(url, headers={"Authorization": f"Bearer {token}"})
            assert refused.value.status == status
        assert session.pieces == []

    scene(tmp_path, scenario, ServerConfig(access=Access(SECRET)))


def test_a_token_for_one_connection_opens_one_stream(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")
        url, mint = server.url + "/v1/stream/show", server.server.gate.mint
        by_header, by_hello = (mint(["control"], "show", 60, once=True)[0] for _ in range(2))
        headers = {"Authorization": f"Bearer {by_header}"}
        async with server.client.get(url, headers=headers) as plain:
            assert plain.status == 426  # came to nothing
        async with server.client.ws_connect(url, headers=headers) as socket:
            assert (await receive(socket))["t"] == "welcome"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await server.client.ws_connect(url, headers=headers)
        assert refused.value.status == 401
        async with server.client.ws_connect(url) as socket:
            await socket.send_bytes(packed("hello", token=by_hello))
            assert (await receive(socket))["t"] == "welcome"
        for used in (by_hello, by_header):
            async with server.client.ws_connect(url) as socket:
                await socket.send_bytes(packed("hello", token=used))
                assert await closing(socket) == 1008

    scene(tmp_path, scenario, ServerConfig(access=Access(SECRET)))


def test_who_may_only_watch_cannot_speak(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        view = server.server.gate.mint(["view"], "show", 60)[0]
        url = server.url + "/v1/stream/show"
        async with server.client.ws_connect(url, headers={"Authorization": f"Bearer {view}"}) as socket:
            for message in (packed("audio", data=pcm(10)), packed("interrupt"), packed("flush")):
                await socket.send_bytes(message)
                assert "right to control" in (await receive(socket, "error"))["message"]
            session.tell(Event("state", {"is": "live"}))
            assert (await receive(socket, "event"))["kind"] == "state"
        assert session.pieces == []

    scene(tmp_path, scenario, ServerConfig(access=Access(SECRET)))


def test_without_a_token_in_time_the_line_is_cut(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")
        async with server.client.ws_connect(server.url + "/v1/stream/show") as socket:
            assert await closing(socket) == 1008

    config = ServerConfig(access=Access(SECRET))
    scene(tmp_path, scenario, config, stream_limits=StreamLimits(hello_s=0.1))


def test_other_pages_and_too_many_sockets_are_refused(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        await server.session(name="show")
        url = server.url + "/v1/stream/show"
        own = {"Origin": server.url}
        async with server.client.ws_connect(url, headers=own) as socket:
            assert (await receive(socket))["t"] == "welcome"
            with pytest.raises(aiohttp.WSServerHandshakeError) as many:
                await server.client.ws_connect(url)
            assert many.value.status == 429
        with pytest.raises(aiohttp.WSServerHandshakeError) as foreign:
            await server.client.ws_connect(url, headers={"Origin": "http://evil.example"})
        assert foreign.value.status == 403
        async with server.client.get(url) as plain:
            assert plain.status == 426

    scene(tmp_path, scenario, ServerConfig(server=Listen(), limits=Rates(per_address=1)))


def test_two_hundred_connections_leave_nothing_behind(tmp_path: Path) -> None:
    async def scenario(server: Running) -> None:
        session = await server.session(name="show")
        url = server.url + "/v1/stream/show"

        async def visit(number: int) -> None:
            async with server.client.ws_connect(url) as socket:
                await receive(socket, "welcome")
                await socket.send_bytes(packed("audio", data=pcm(8)))
                if number % 2:  # some vanish
                    assert socket._conn is not None
                    assert socket._conn.transport is not None
                    socket._conn.transport.abort()

        async def quiet() -> tuple[int, int]:
            while session._watchers or len(server.server.sockets):
                async with server.client.get(server.url + "/healthz"):
                    pass
            return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))

        for number in range(10):
            await visit(number)
        before = await quiet()
        for number in range(200):
            await visit(number)
        after = await quiet()
        assert after[0] <= before[0]
        assert after[1] <= before[1] + 1

    scene(tmp_path, scenario, ServerConfig(limits=Rates(requests_per_s=1e6)))
