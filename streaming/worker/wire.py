"""What edge and worker say to each other: msgpack records, each behind its length.

A message is a little-endian uint32, the length of what follows, then one of the structs below in msgpack.
Pictures never travel here; they lie in shared memory (`streaming.worker.slots`), whose descriptor comes with
`Open` and `Exchange`. Both ends belong to one livedub, so there is no version; limits hold all the same, as a
worker that went wrong must not take the edge with it.
"""

import struct
from typing import Literal, TypeVar

import msgspec

from engine.errors import ProtocolError
from engine.image.yuv import Matrix

MAX_MESSAGE_BYTES = 1 << 20
Rung = Literal["full", "half", "pass"]
"""How much a worker does: all; every second mouth; nothing, frames pass as they came."""

_LENGTH = struct.Struct("<I")
T = TypeVar("T")


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages."""


class Open(Message, frozen=True):
    """Edge: open this actor; the ring's descriptor comes along."""

    actor: str
    look_ahead_ms: int
    backend: str | None
    precision: str
    idle: Literal["source", "closed"]
    override_consent: bool
    now_iso: str
    width: int
    height: int
    slots: int


class Exchange(Message, frozen=True):
    """Edge: forget all that waits, without an answer, and go on with this ring, whose descriptor comes along.

    The next sound is of media time 0, as after `Open`; the actor and the rung stay.
    """

    width: int
    height: int
    slots: int


class Frame(Message, frozen=True):
    """Edge: the picture in a slot is the next frame."""

    index: int
    slot: int
    time_s: float
    matrix: Matrix
    full_range: bool


class Sound(Message, frozen=True):
    """Edge: the dub's next samples, float32 little-endian, mono, 16 kHz."""

    samples: bytes


class Skip(Message, frozen=True):
    """Edge: nobody waits for this frame any more."""

    index: int


class SetRung(Message, frozen=True):
    """Edge: do as much as this from the next frame on."""

    rung: Rung


class Forget(Message, frozen=True):
    """Edge: drop frames and sound, forget the face; the next sound is of that media time."""

    start_s: float


class Measure(Message, frozen=True):
    """Edge: how much CPU does a frame take? Of the actor's pack; None: of an actor made up."""

    actor: str | None
    width: int
    height: int


class Ping(Message, frozen=True):
    """Edge: are you there?"""

    number: int


class Warm(Message, frozen=True):
    """Worker: everything that does not depend on the actor is loaded."""


class Ready(Message, frozen=True):
    """Worker: the actor is open and has drawn its first picture."""

    renderer: str
    warning: str | None


class Exchanged(Message, frozen=True):
    """Worker: the answer to `Exchange`; what it said before was of the former ring."""


class Failed(Message, frozen=True):
    """Worker: what was asked cannot be done; `kind` is the name of one of `engine.errors`."""

    kind: str
    message: str


class Done(Message, frozen=True):
    """Worker: a frame is finished. `stages_ns` are monotonic times by stage."""

    index: int
    slot: int
    shown: str
    level: float
    confidence: float
    cut: bool
    stages_ns: dict[str, int]


class Measured(Message, frozen=True):
    """Worker: the answer to `Measure`."""

    frame_s: float


class Pong(Message, frozen=True):
    """Worker: the answer to `Ping`."""

    number: int


ToWorker = Open | Exchange | Frame | Sound | Skip | SetRung | Forget | Measure | Ping
ToEdge = Warm | Ready | Exchanged | Failed | Done | Measured | Pong

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_to_edge: msgspec.msgpack.Decoder[ToEdge] = msgspec.msgpack.Decoder(ToEdge)


def encode(message: Message) -> bytes:
    """One message as it travels.

    Raises:
        ProtocolError: it is longer than what is allowed.
    """
    body = _encoder.encode(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message of {len(body)} bytes; at most {MAX_MESSAGE_BYTES} may be sent")
    return _LENGTH.pack(len(body)) + body


class Inbox:
    """Bytes in any pieces, taken apart into messages."""

    def __init__(self) -> None:
        self._held = bytearray()

    def to_worker(self, data: bytes) -> list[ToWorker]:
        """What the edge said.

        Raises:
            ProtocolError: too long, or not a message.
        """
        return [_decoded(_to_worker, body) for body in self._bodies(data)]

    def to_edge(self, data: bytes) -> list[ToEdge]:
        """What a worker said.

        Raises:
            ProtocolError: too long, or not a message.
        """
        return [_decoded(_to_edge, body) for body in self._bodies(data)]

    def _bodies(self, data: bytes) -> list[bytes]:
        self._held += data
        bodies, start = [], 0
        while len(self._held) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._held, start)
            if length > MAX_MESSAGE_BYTES:
                raise ProtocolError(f"a message of {length} bytes; at most {MAX_MESSAGE_BYTES} are taken")
            end = start + _LENGTH.size + length
            if len(self._held) < end:
                break
            bodies.append(bytes(self._held[start + _LENGTH.size : end]))
            start = end
        del self._held[:start]
        return bodies


def _decoded(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a message between edge and worker: {error}") from error
