"""What the parts of the live side hand to each other. Values only: no sockets, no tasks, no clock.

Media time is a count of samples at 48 kHz since the session's zero, `position`: the one clock of a session.
Wall time is monotonic nanoseconds, `..._ns`, as `time.monotonic_ns` gives them, and always injected.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.composite.mark import Mark
from engine.image.yuv import I420, Colour

MEDIA_RATE_HZ = 48_000
NS_PER_S = 1_000_000_000
PROTOCOL_VERSION = 1

PCM = NDArray[np.int16]
"""Mono sound, int16 [T]."""

IdlePolicy = Literal["source", "closed"]
"""While no dub speaks: the picture as filmed with its own sound, or the mouth at rest in silence."""


VoiceSource = Literal["socket", "publisher"]
"""Where the dub's sound comes from."""


@dataclass(frozen=True)
class SessionOptions:
    """What a session is asked to be.

    Attributes:
        actor: the pack's file.
        voice: where the dub's sound comes from: pushed over a socket, or the publisher's own sound track.
        programme: a file or address to play as the picture; None: somebody publishes it.
        look_ahead_ms: sound beyond a frame's time that decides its mouth: 0, 60, 120 or 240.
        latency_budget_ms: a frame leaves so long after its media time at the latest, dubbed or not.
        original_delay_ms: the source picture is held for so long, so that a translation can catch up.
        idle: what shows while no dub has arrived.
        backend, precision: of the renderer; None and "auto" choose.
        override_consent: dub a pack without a valid consent record; logged.
        mark: "visible": every picture that leaves says in a corner that it is a dub.
    """

    actor: Path
    voice: VoiceSource = "socket"
    programme: str | None = None
    look_ahead_ms: int = 120
    latency_budget_ms: int = 400
    original_delay_ms: int = 0
    idle: IdlePolicy = "source"
    backend: str | None = None
    precision: str = "auto"
    override_consent: bool = False
    mark: Mark = "none"


@dataclass(frozen=True, eq=False)
class VideoIn:
    """One decoded source frame.

    Attributes:
        image: the picture; borrowed for the call only, unless said otherwise.
        colour: how its bytes are meant.
        captured_ns: when it was taken, on this machine's monotonic clock, as well as the source tells
            (sender reports, container times); equal spacing is kept, network jitter is not in it.
        stamps_ns: when it passed each stage so far, by name: "received", "decoded".
    """

    image: I420
    colour: Colour
    captured_ns: int
    stamps_ns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AudioIn:
    """A piece of sound as it came.

    Attributes:
        samples: int16 [T], mono.
        rate_hz: 8,000 to 48,000.
        captured_ns: when its first sample was spoken, monotonic; None where nobody knows (a text-to-speech
            service sends as fast as it can): it then plays when its turn comes.
    """

    samples: PCM
    rate_hz: int
    captured_ns: int | None = None


@dataclass(frozen=True)
class Answer:
    """An accepted offer.

    Attributes:
        resource: random name of the connection, part of its address.
        sdp: the answer.
        etag: of the connection's ICE session.
    """

    resource: str
    sdp: str
    etag: str


@dataclass(frozen=True)
class Playback:
    """How far the dub had been heard when it was interrupted.

    Attributes:
        utterance: number of the utterance that was playing, None if none was.
        played_ms: of it, that left the gate.
        dropped_ms: of everything queued, that will not be heard.
    """

    utterance: int | None
    played_ms: int
    dropped_ms: int


@dataclass(frozen=True)
class Event:
    """Something that watchers of a session are told.

    Attributes:
        kind: "state", "latency", "ladder", "playback", "credit", "face", "viewers", "error", "closed".
        data: plain values.
    """

    kind: str
    data: Mapping[str, object]
