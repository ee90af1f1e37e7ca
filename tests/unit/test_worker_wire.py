import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ProtocolError
from streaming.worker import wire

FRAME = wire.Frame(7, 3, 0.28, "bt709", False)
SOUND = wire.Sound(b"\0" * 640)
DONE = wire.Done(7, 3, "dubbed", 1.0, 0.9, False, {"taken": 1, "dubbed": 2**62})
OPEN = wire.Open("a.actor", 120, None, "auto", "source", False, "2026-01-01T00:00:00Z", 1280, 720, 12)


def test_messages_come_as_they_went() -> None:
    asked: list[wire.ToWorker] = [FRAME, SOUND, wire.Skip(7), wire.SetRung("half"), wire.Forget(1.5), OPEN]
    asked += [wire.Ping(2), wire.Measure(None, 1280, 720), wire.Exchange(640, 480, 12)]
    assert wire.Inbox().to_worker(b"".join(map(wire.encode, asked))) == asked
    said: list[wire.ToEdge] = [wire.Warm(), wire.Ready("reference f32", None), DONE, wire.Pong(2)]
    said += [wire.Failed("ActorPackError", "no"), wire.Measured(0.02), wire.Exchanged()]
    assert wire.Inbox().to_edge(b"".join(map(wire.encode, said))) == said


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(1, 40), min_size=1))
def test_any_cut_of_the_bytes_gives_the_same_messages(kinds: list[int], cuts: list[int]) -> None:
    messages = [(FRAME, SOUND, wire.Skip(1), wire.Ping(4))[kind] for kind in kinds]
    data, inbox = b"".join(map(wire.encode, messages)), wire.Inbox()
    got: list[wire.ToWorker] = []
    at = turn = 0
    while at < len(data):
        step = cuts[turn % len(cuts)]
        got += inbox.to_worker(data[at : at + step])
        at, turn = at + step, turn + 1
    assert got == messages


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_a_protocol_error(data: bytes) -> None:
    try:
        got = wire.Inbox().to_worker(data)
    except ProtocolError:
        return
    assert all(isinstance(message, wire.Message) for message in got)


def test_a_length_beyond_the_limit_is_refused_before_it_is_waited_for() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        wire.Inbox().to_edge(struct.pack("<I", wire.MAX_MESSAGE_BYTES + 1))


def test_nothing_too_long_is_sent() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        wire.encode(wire.Sound(bytes(wire.MAX_MESSAGE_BYTES)))


@pytest.mark.parametrize(
    "body",
    [
        msgspec.msgpack.encode({"type": "Frame"}),
        msgspec.msgpack.encode({"type": "Nothing"}),
        msgspec.msgpack.encode({"type": "Ping", "number": "one"}),
        msgspec.msgpack.encode({"type": "Ping", "number": 1, "more": 2}),
        b"\xc1",
        b"",
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a message"):
        wire.Inbox().to_worker(struct.pack("<I", len(body)) + body)


def test_each_side_takes_only_the_other_sides_messages() -> None:
    with pytest.raises(ProtocolError):
        wire.Inbox().to_edge(wire.encode(FRAME))
    with pytest.raises(ProtocolError):
        wire.Inbox().to_worker(wire.encode(DONE))
