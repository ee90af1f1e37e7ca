"""The messages of `/v1/stream/{session}`, version 1: msgpack maps `{v, t, seq, ...}` in binary frames.

A reader MUST refuse another `v` and an unknown `t`, and MUST ignore unknown fields. `seq` is the sender's own
number of the message; answers name it as `re`. Extension types, timestamps among them, are refused.

`until` of `welcome` and `credit` is how much sound the client may have sent over this connection in all, in
samples at 48 kHz whatever its rate. It only grows, so a message that is on its way makes no race.

The options of a session are fixed when it is made (`POST /v1/sessions`): the memory for its pictures and the
worker are laid out for them. `welcome` tells them. What the server says:

    welcome   session, roles, until, look_ahead_ms, latency_budget_ms, original_delay_ms, idle
    credit    until
    event     kind, data, dropped     see `streaming.types.Event`; so many before it were dropped, unread
    done      re                      to `hello` and `ping`
    playback  re, utterance, played_ms, dropped_ms; to `interrupt`
    error     re, code ("refused" | "failed" | "slow"), message
"""

from typing import Annotated, Any, Literal

import msgpack
import msgspec
from msgspec import Meta, Struct

from engine.errors import ProtocolError
from streaming.server.limits import MAX_MESSAGE_BYTES
from streaming.types import PROTOCOL_VERSION

SUBPROTOCOL = "livedub.v1"
TOKEN_PREFIX = "token."
MAX_TEXT = 8192
MAX_ITEMS = 64
MAX_OPUS_BYTES = 8 * 1275  # of a packet: RFC 6716, section 3.4, with room for several frames

Sequence = Annotated[int, Meta(ge=0, lt=2**53)]
Utterance = Annotated[int, Meta(ge=0, lt=2**31)]
Version = Annotated[int, Meta(ge=0, lt=2**31)]


class Hello(Struct, frozen=True, tag_field="t", tag="hello"):
    """First message of a client that could not give its token otherwise."""

    v: Version
    seq: Sequence
    token: Annotated[str, Meta(max_length=4096)] | None = None

    def __repr__(self) -> str:
        return f"Hello(seq={self.seq})"


class Audio(Struct, frozen=True, tag_field="t", tag="audio"):
    """Dub sound: s16le mono PCM of any length, or one Opus packet."""

    v: Version
    seq: Sequence
    data: bytes
    rate_hz: Annotated[int, Meta(ge=8_000, le=48_000)] = 48_000
    codec: Literal["pcm", "opus"] = "pcm"
    utterance: Utterance | None = None

    def __repr__(self) -> str:
        return f"Audio(seq={self.seq}, {len(self.data)} bytes of {self.codec} at {self.rate_hz} Hz)"


class Begin(Struct, frozen=True, tag_field="t", tag="begin"):
    """What follows belongs to this utterance, unless it says otherwise."""

    v: Version
    seq: Sequence
    utterance: Utterance


class End(Struct, frozen=True, tag_field="t", tag="end"):
    """No more sound of this utterance comes."""

    v: Version
    seq: Sequence
    utterance: Utterance | None = None


class Flush(Struct, frozen=True, tag_field="t", tag="flush"):
    """Play out all that was sent; nothing else of it comes. The same as `end` of whatever is open."""

    v: Version
    seq: Sequence


class Interrupt(Struct, frozen=True, tag_field="t", tag="interrupt"):
    """Drop what has not been heard; answered by `playback`."""

    v: Version
    seq: Sequence


class Ping(Struct, frozen=True, tag_field="t", tag="ping"):
    """Answered by `done`, when all that was sent before is done."""

    v: Version
    seq: Sequence


Message = Hello | Audio | Begin | End | Flush | Interrupt | Ping


def decode(data: bytes) -> Message:
    """Return a client's message.

    Raises:
        ProtocolError: it is none.
    """
    plain = unpack(data)
    try:
        message: Message = msgspec.convert(plain, Message, builtin_types=(bytes,))
    except (msgspec.ValidationError, RecursionError) as error:
        raise ProtocolError(str(error)[:300]) from None
    return message


def unpack(data: bytes) -> dict[str, Any]:
    """Return a message of either side as a map, with its version checked and nothing else.

    Raises:
        ProtocolError: it is none.
    """
    try:
        plain = msgpack.unpackb(
            data,
            strict_map_key=True,
            raw=False,
            timestamp=0,
            ext_hook=_refuse,
            max_bin_len=MAX_MESSAGE_BYTES,
            max_str_len=MAX_TEXT,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"not msgpack within the limits: {type(error).__name__}") from None
    if not isinstance(plain, dict) or any(not isinstance(key, str) for key in plain):
        raise ProtocolError("a message is a map with names")
    if plain.get("v") != PROTOCOL_VERSION:
        raise ProtocolError(f"version {PROTOCOL_VERSION} of the protocol is spoken here, `v` says otherwise")
    return plain


def encode(kind: str, seq: int, fields: dict[str, Any]) -> bytes:
    """Return a message, of either side."""
    packed: bytes = msgpack.packb({"v": PROTOCOL_VERSION, "t": kind, "seq": seq} | fields, default=_plain)
    return packed


def _refuse(code: int, data: bytes) -> None:
    raise ValueError("extension types are not spoken here")


def _plain(value: Any) -> Any:
    """What is no plain value yet: paths, tuples in structs, numpy's numbers."""
    return value.item() if hasattr(value, "item") else str(value)
