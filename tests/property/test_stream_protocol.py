"""Any bytes on a stream: at most their own connection ends, with a code that says why; never a traceback."""

import logging
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import ProtocolError
from streaming.server import messages
from streaming.server.messages import decode
from tests.support.live_sessions import MemorySession, Running, scene

CODES = {1002, 1003, 1008, 1009}
KINDS = ("hello", "audio", "begin", "end", "flush", "interrupt", "ping", "welcome", "")
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(-9, 9), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["v", "seq", "data", "rate_hz", "codec", "utterance", "token", "idle", "latency_budget_ms"]
)
SHAPED = st.builds(
    lambda kind, fields, odd: {"v": 1, "t": kind, "seq": 1} | fields | odd,
    st.sampled_from(KINDS),
    st.fixed_dictionaries({}, optional={"data": st.binary(max_size=64), "utterance": st.integers(0, 9)}),
    st.dictionaries(FIELDS, PLAIN, max_size=2),
)


def packed(value: Any) -> bytes:
    data: bytes = msgpack.packb(value, strict_types=False)
    return data


EXTENDED = st.builds(
    lambda code, data: msgpack.packb(msgpack.ExtType(code, data)), st.integers(0, 127), st.binary(max_size=9)
)
BYTES = st.binary(max_size=64) | PLAIN.map(packed) | SHAPED.map(packed) | EXTENDED
CUT = st.builds(lambda data, at: data[: at % (len(data) + 1)], SHAPED.map(packed), st.integers(0, 200))


@settings(deadline=None, max_examples=50)
@given(BYTES | CUT)
def test_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    try:
        message = decode(data)
    except ProtocolError:
        return
    assert message.v == 1
    assert type(message).__name__.lower() in KINDS


@pytest.mark.parametrize(
    "data",
    [
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x91" * 5000,
        b"\x81\xa1a" * 3000 + b"\xc0",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc7\x00\x05",
        packed({"v": 1, "t": "ping", "seq": 1}) + b"\x00",
    ],
    ids=range(9),
)
def test_bombs_are_refused_before_they_cost_anything(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(BYTES | CUT | st.text(max_size=9), min_size=1, max_size=6))
def test_nothing_that_is_sent_hurts_the_server_or_its_neighbours(
    sent: list[bytes | str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(server: Running) -> None:
        session: MemorySession = await server.session(name="show")
        url = server.url + "/v1/stream/show"
        async with server.client.ws_connect(url) as neighbour, server.client.ws_connect(url) as socket:
            for item in sent:
                if isinstance(item, str):
                    await socket.send_str(item)
                else:
                    await socket.send_bytes(item)
            await socket.send_bytes(packed({"v": 9}))  # ends it at the latest
            while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
            assert socket.close_code in CODES
            await neighbour.send_bytes(packed({"v": 1, "t": "ping", "seq": 4}))
            while msgpack.unpackb(await neighbour.receive_bytes())["t"] != "done":
                pass
        assert not session.closed.is_set()

    caplog.set_level(logging.WARNING)
    scene(tmp_path, scenario)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_every_message_that_is_documented_is_read() -> None:
    for kind in messages.Message.__args__:
        tag = kind.__struct_config__.tag
        fields: dict[str, Any] = {"v": 1, "t": tag, "seq": 3, "new_field": None}
        needed: dict[str, dict[str, Any]] = {"audio": {"data": b"\0\0"}, "begin": {"utterance": 2}}
        fields |= needed.get(str(tag), {})
        assert isinstance(decode(packed(fields)), kind)
