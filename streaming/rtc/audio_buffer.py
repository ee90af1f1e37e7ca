"""Opus packets to sound, in order, with losses concealed. Pure, time is passed in.

Sound is given on as soon as it is in order, each piece with its timestamp: placing it on the media clock is
the session's. So nothing is delayed that need not be, no lag can build up after a loss or a stall, and
nothing has to be stretched or cut to get rid of it. What adapts is how long a missing packet is waited for
before it is concealed: 30 to 120 ms, by how late packets have been (95th percentile).
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.errors import MediaError
from streaming.rtc.opus import packet_samples
from streaming.rtc.reception import WindowMinimum
from streaming.types import MEDIA_RATE_HZ, NS_PER_S, PCM

WAIT_LEAST_NS = 30_000_000  # the packet after it comes 20 ms later, and may have its copy
WAIT_MOST_NS = 120_000_000
PACKETS_MAX = 100
_MARGIN_NS = 5_000_000
_LATENESS_PACKETS = 250  # 5 s
_LATENESS_EVERY = 10
_WINDOW_NS = 15 * NS_PER_S
_CONCEAL_MAX_SAMPLES = 2880  # 60 ms; the last 20 of them fade out, which libopus takes 400 for
_FADE_OUT_SAMPLES = 960
_FADE_IN_SAMPLES = 240
_STEP_SAMPLES = 120  # libopus conceals in multiples of 2.5 ms
_RESTART_SAMPLES = 5 * MEDIA_RATE_HZ
_DTX_MAX_BYTES = 2  # RFC 6716 §2.1.9, RFC 7587 §3.1.3: such a packet begins a pause


class Decoder(Protocol):
    """`opus.OpusDecoder`."""

    def decode(self, packet: bytes) -> PCM:
        """Decode a packet; MediaError if it is damaged."""
        ...

    def conceal(self, samples: int) -> PCM:
        """Continue the sound without a packet."""
        ...

    def recover(self, following: bytes, samples: int) -> PCM:
        """Decode the copy in the packet after; MediaError if that is damaged."""
        ...


@dataclass(frozen=True, eq=False)
class Sound:
    """A piece of the stream.

    Attributes:
        samples: int16 [T] at 48 kHz.
        timestamp: unwrapped, of the first sample; pauses of the sender are jumps in it.
        concealed: whether it was made up for a missing packet.
    """

    samples: PCM
    timestamp: int
    concealed: bool = False


@dataclass(frozen=True, slots=True)
class _Packet:
    timestamp: int
    payload: bytes


class AudioBuffer:
    """Puts the packets of one Opus stream in order.

    Args:
        decoder: of the stream.

    Attributes:
        concealed: counts pieces made up.
        recovered: counts pieces decoded from the copy in the packet after.
        late: counts packets that came after their place was concealed.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.concealed = 0
        self.recovered = 0
        self.late = 0
        self._decoder = decoder
        self._packets: dict[int, _Packet] = {}
        self._next: int | None = None
        self._position = 0  # timestamp of the sample after the last one given
        self._piece_samples = 960
        self._made_up = 0  # samples since the last real one
        self._pause = False
        self._fresh = True
        self._arrived_ns = 0
        self._least = WindowMinimum(_WINDOW_NS)
        self._lateness: deque[int] = deque(maxlen=_LATENESS_PACKETS)
        self._added = 0
        self._wait_ns = WAIT_LEAST_NS

    @property
    def wait_ms(self) -> float:
        """How long a missing packet is waited for now."""
        return self._wait_ns / 1e6

    def add(self, number: int, timestamp: int, payload: bytes, now_ns: int) -> None:
        """Take a packet with its unwrapped numbers; empty and known ones are ignored."""
        if not payload:
            return
        if self._next is None or abs(timestamp - self._position) > _RESTART_SAMPLES:
            self._restart(number, timestamp)
        self._note(timestamp, now_ns)
        if self._next is not None and number < self._next:
            self.late += 1
        elif number not in self._packets:
            self._packets[number] = _Packet(timestamp, payload)

    def take(self, now_ns: int) -> list[Sound]:
        """Return what is ready; call after every `add`, and about every 10 ms."""
        sounds: list[Sound] = []
        while self._next is not None:
            if (packet := self._packets.pop(self._next, None)) is not None:
                self._next += 1
                self._decode(packet, sounds)
            elif not self._due(now_ns) and len(self._packets) <= PACKETS_MAX:
                break
            elif self._packets:
                self._bridge(sounds)
            elif self._pause or self._made_up >= _CONCEAL_MAX_SAMPLES or self._still_coming(now_ns):
                break
            else:
                self._make_up(self._piece_samples, sounds)
        return sounds

    def _restart(self, number: int, timestamp: int) -> None:
        self._packets.clear()
        self._next, self._position = number, timestamp
        self._made_up = _CONCEAL_MAX_SAMPLES
        self._fresh = True
        self._least = WindowMinimum(_WINDOW_NS)

    def _note(self, timestamp: int, now_ns: int) -> None:
        """Learn how late packets come, against the quickest of the last seconds."""
        self._arrived_ns = now_ns
        transit_ns = now_ns - timestamp * NS_PER_S // MEDIA_RATE_HZ
        self._lateness.append(transit_ns - self._least.add(now_ns, transit_ns))
        self._added += 1
        if self._added % _LATENESS_EVERY == 0:
            ordered = sorted(self._lateness)
            most_ns = ordered[len(ordered) * 95 // 100] + _MARGIN_NS
            self._wait_ns = min(WAIT_MOST_NS, max(WAIT_LEAST_NS, most_ns))

    def _due(self, now_ns: int) -> bool:
        """Whether the packet that is waited for would be too late by now."""
        least = self._least.least
        expected_ns = (least or 0) + self._position * NS_PER_S // MEDIA_RATE_HZ
        return least is not None and now_ns >= expected_ns + self._wait_ns

    def _still_coming(self, now_ns: int) -> bool:
        """Whether packets came just now: then this is the end of a stall, and more will follow at once."""
        return now_ns < self._arrived_ns + self._wait_ns

    def _decode(self, packet: _Packet, sounds: list[Sound]) -> None:
        try:
            samples = self._decoder.decode(packet.payload)
        except MediaError:
            samples = self._decoder.conceal(self._piece_samples)
        self._pause = len(packet.payload) <= _DTX_MAX_BYTES
        behind = self._position - packet.timestamp
        if behind >= len(samples) > 0:
            self.late += 1  # decoded all the same, for what comes next
            return
        if behind > 0:
            samples = samples[behind:]
        self._piece_samples = max(_STEP_SAMPLES, len(samples) // _STEP_SAMPLES * _STEP_SAMPLES)
        self._give(self._faded_in(samples), packet.timestamp + max(0, behind), sounds, concealed=False)
        self._made_up = 0

    def _bridge(self, sounds: list[Sound]) -> None:
        """Conceal up to the next packet that is here, the last part from its copy."""
        number = min(self._packets)
        following = self._packets[number]
        self._next = number
        missing = (following.timestamp - self._position) // _STEP_SAMPLES * _STEP_SAMPLES
        if missing <= 0 or self._pause:
            return
        last = min(missing, max(_STEP_SAMPLES, packet_samples(following.payload)))
        room = max(0, _CONCEAL_MAX_SAMPLES - self._made_up)
        if before := min(missing - last, room) // _STEP_SAMPLES * _STEP_SAMPLES:
            self._make_up(before, sounds)
        try:
            samples = self._decoder.recover(following.payload, last)
        except MediaError:
            samples = self._decoder.conceal(last)
        self.recovered += 1
        self._give(self._faded_in(samples), following.timestamp - len(samples), sounds, concealed=True)
        self._made_up = 0

    def _make_up(self, count: int, sounds: list[Sound]) -> None:
        left = _CONCEAL_MAX_SAMPLES - self._made_up - np.arange(count)
        gain = np.clip(left / _FADE_OUT_SAMPLES, 0, 1)
        samples = (self._decoder.conceal(count)[:count] * gain).astype(np.int16)
        self._made_up += count
        self.concealed += 1
        self._give(samples, self._position, sounds, concealed=True)

    def _faded_in(self, samples: PCM) -> PCM:
        """Let sound begin softly after it was faded out."""
        if self._made_up < _CONCEAL_MAX_SAMPLES or self._fresh:
            self._fresh = False
            return samples
        count = min(len(samples), _FADE_IN_SAMPLES)
        begin = (samples[:count] * (np.arange(count) / count)).astype(np.int16)
        return np.concatenate([begin, samples[count:]])

    def _give(self, samples: PCM, timestamp: int, sounds: list[Sound], *, concealed: bool) -> None:
        self._position = timestamp + len(samples)
        if len(samples):
            sounds.append(Sound(samples, timestamp, concealed))
