"""Narrow and lossy links in virtual time: our pace, budget and bitrate against aiortc's real estimator.

The picture is a stream of frame sizes; the link has a rate, a delay, a bounded queue and random loss. Minutes
pass in seconds, the same on every run.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtp import RtpPacket

from streaming.rtc.history import Congestion, PacketHistory
from streaming.rtc.keyframes import KeyframeLimiter, KeyframeUnderWay
from streaming.rtc.pacer import PACKET_OVERHEAD_BYTES
from streaming.rtc.rate_control import RateOptions
from streaming.types import NS_PER_S

MS = 1_000_000
FRAME_NS = 40 * MS
PAYLOAD = 1200
KEYFRAME_BYTES = ((1_000_000, 18_000), (2_000_000, 34_000), (4_000_000, 49_000))  # by target, measured
GIVE_UP_NS = 300 * MS


@dataclass
class Link:
    """A bottleneck with a drop-tail queue.

    Attributes:
        rate_bps: at a time in seconds.
        delay_ms: one way.
        loss: of packets, at random.
        queue_ms: longest wait at the bottleneck.
    """

    rate_bps: Callable[[float], float]
    delay_ms: int = 20
    loss: float = 0.0
    queue_ms: int = 250


@dataclass
class Seen:
    """What a viewer saw.

    Attributes:
        complete_ns: when each frame was whole, in order.
        delays_ms: from encoding to that.
        targets_bps: the estimate, ten times a second.
        media_bytes, again_bytes: sent for the first time, and again.
        dropped: packets at the queue's end.
        keyframes: encoded.
        hopeless: whether the viewer would have been given up.
    """

    complete_ns: list[int] = field(default_factory=list)
    delays_ms: list[float] = field(default_factory=list)
    targets_bps: list[int] = field(default_factory=list)
    media_bytes: int = 0
    again_bytes: int = 0
    dropped: int = 0
    keyframes: int = 0
    hopeless: bool = False

    def freezes(self, after_s: float = 0) -> int:
        """Gaps longer than 190 ms between frames: the rule of getStats at 25 frames a second."""
        times = [at for at in self.complete_ns if at > after_s * NS_PER_S]
        return int(np.count_nonzero(np.diff(times) > 190 * MS))


class Call:
    """One viewer behind a link."""

    def __init__(self, link: Link, seconds: float, seed: int = 1) -> None:
        self.link, self.seen = link, Seen()
        self._end_ns = round(seconds * NS_PER_S)
        self._rng = np.random.default_rng(seed)
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = itertools.count()
        self._used = Congestion.fresh(RateOptions(), 0)
        self._history = PacketHistory()
        self._keyframes = KeyframeLimiter()
        self._keyframes.request("viewer")
        self._under_way = KeyframeUnderWay()
        self._link_free_ns = 0
        self._sequence = 0
        self._waiting: list[tuple[int, int]] = []  # frame, bytes
        self._sending = False
        self._skips = False
        self._estimator = RemoteBitrateEstimator()
        self._arrived: dict[int, set[int]] = {}
        self._whole: dict[int, int] = {}
        self._encoded_ns: dict[int, int] = {}
        self._is_key: set[int] = set()
        self._owner: dict[int, int] = {}
        self._highest = -1
        self._lost: dict[int, int] = {}  # sequence: since
        self._next_frame = 0
        self._blocked_ns: int | None = None
        self._got = self._expected = 0

    def run(self) -> Seen:
        self._at(0, self._encode)
        self._at(NS_PER_S, self._report)
        self._at(30 * MS, self._ask_again)
        self._at(100 * MS, self._note)
        while self._events:
            now_ns, _, action = heapq.heappop(self._events)
            if now_ns > self._end_ns:
                break
            action(now_ns)
        return self.seen

    def _at(self, when_ns: int, action: Callable[[int], None]) -> None:
        heapq.heappush(self._events, (when_ns, next(self._order), action))

    def _encode(self, now_ns: int) -> None:
        frame = len(self._encoded_ns)
        reason = self._keyframes.due(now_ns)
        size = round(self._used.rate.target_bps / 25 / 8 * self._rng.lognormal(-0.03, 0.25))
        if reason is not None:
            size = next(size for most, size in KEYFRAME_BYTES if self._used.rate.target_bps <= most)
            self._keyframes.made(now_ns, reason, size, self._used.rate.target_bps)
            self._is_key.add(frame)
            self.seen.keyframes += 1
            self._skips = False
        self._encoded_ns[frame] = now_ns
        if not self._skips:
            self._waiting.append((frame, size))
        if not self._sending:
            self._sending = True
            self._send(now_ns)
        self._at(now_ns + FRAME_NS, self._encode)

    def _send(self, now_ns: int) -> None:
        """Send the next packet when the pacer says so."""
        if not self._waiting:
            self._sending = False
            return
        frame, left = self._waiting[0]
        size = min(left, PAYLOAD)
        self._used.rate.sent(now_ns, size)
        wait_ns = self._used.pacer.wait_ns(now_ns, size, self._used.rate.target_bps)

        def go(at_ns: int) -> None:
            sequence = self._sequence
            self._sequence += 1
            self._owner[sequence] = frame
            self._history.add(RtpPacket(sequence_number=sequence % 65_536, payload=bytes(size)), at_ns)
            self._arrived.setdefault(frame, set()).add(sequence)
            self.seen.media_bytes += size
            if frame in self._is_key:
                self._under_way.begins()
            if left > size:
                self._waiting[0] = (frame, left - size)
            else:
                self._waiting.pop(0)
                if frame in self._is_key:
                    self._under_way.ends(at_ns)
                self._whole[frame] = sequence
            self._transmit(at_ns, sequence, size)
            self._send(at_ns)

        self._at(now_ns + wait_ns, go)

    def _transmit(self, now_ns: int, sequence: int, size: int) -> None:
        rate = self.link.rate_bps(now_ns / NS_PER_S)
        begins_ns = max(self._link_free_ns, now_ns)
        if begins_ns - now_ns > self.link.queue_ms * MS:
            self.seen.dropped += 1
            return
        self._link_free_ns = begins_ns + round((size + PACKET_OVERHEAD_BYTES) * 8 / rate * NS_PER_S)
        if self._rng.random() >= self.link.loss:
            arrives_ns = self._link_free_ns + self.link.delay_ms * MS
            self._at(arrives_ns, lambda at_ns: self._receive(at_ns, now_ns, sequence, size))

    def _receive(self, now_ns: int, sent_ns: int, sequence: int, size: int) -> None:
        stamp = ((sent_ns << 18) // NS_PER_S) & 0xFFFFFF
        remb = self._estimator.add(now_ns // MS, stamp, size, 1)
        if remb is not None:
            self._feed_back(now_ns, lambda at_ns: self._used.rate.remb(at_ns, remb[0]))
        if sequence > self._highest:
            self._expected += sequence - self._highest
            for gap in range(self._highest + 1, sequence):
                self._lost[gap] = now_ns
                self._nack(now_ns, gap)
            self._highest = sequence
            self._got += 1
        self._lost.pop(sequence, None)
        self._arrived[self._owner[sequence]].discard(sequence)
        self._show(now_ns)

    def _show(self, now_ns: int) -> None:
        """Take whole frames in order, or go on at a keyframe behind a hole."""
        while True:
            frame = self._next_frame
            if frame in self._whole and not self._arrived[frame]:
                self.seen.complete_ns.append(now_ns)
                self.seen.delays_ms.append((now_ns - self._encoded_ns[frame]) / MS)
                self._next_frame += 1
                self._blocked_ns = None
                continue
            key = next((k for k in sorted(self._is_key) if k > frame and self._ready(k)), None)
            if key is not None:
                self._next_frame = key
                continue
            return

    def _ready(self, frame: int) -> bool:
        return frame in self._whole and not self._arrived[frame]

    def _ask_again(self, now_ns: int) -> None:
        oldest_ns = min(self._lost.values(), default=now_ns)
        if now_ns - oldest_ns > GIVE_UP_NS:
            self._lost.clear()
            self._feed_back(now_ns, self._picture_lost)
        for sequence in list(self._lost):
            self._nack(now_ns, sequence)
        self._at(now_ns + 30 * MS, self._ask_again)

    def _picture_lost(self, now_ns: int) -> None:
        waits = any(frame in self._is_key for frame, _ in self._waiting)
        if not waits and not self._under_way.answers(now_ns, 2 * self.link.delay_ms * MS):
            self._keyframes.request("lost")
            self._skips = True
            del self._waiting[1:]

    def _nack(self, now_ns: int, sequence: int) -> None:
        def arrive(at_ns: int) -> None:
            used, target_bps = self._used, self._used.rate.target_bps
            rtt_ns = 2 * self.link.delay_ms * MS
            number = sequence % 65_536
            packet = self._history.again(at_ns, number, used.retransmits, rtt_ns, target_bps)
            if packet is not None:
                used.pacer.charge(at_ns, len(packet.payload), target_bps)
                self.seen.again_bytes += len(packet.payload)
                self._transmit(at_ns, sequence, len(packet.payload))

        self._feed_back(now_ns, arrive)

    def _report(self, now_ns: int) -> None:
        """As often as browsers do that see losses."""
        lost, expected = self._expected - self._got, self._expected
        self._got = self._expected = 0
        self._feed_back(now_ns, lambda at_ns: self._used.rate.report(at_ns, lost, expected))
        self._at(now_ns + 100 * MS, self._report)

    def _feed_back(self, now_ns: int, action: Callable[[int], None]) -> None:
        self._at(now_ns + self.link.delay_ms * MS, action)

    def _note(self, now_ns: int) -> None:
        self.seen.targets_bps.append(self._used.rate.estimate_bps)
        self.seen.hopeless |= self._used.rate.hopeless(now_ns)
        self._at(now_ns + 100 * MS, self._note)


def call(seconds: float, rate_bps: float | Callable[[float], float], **more: float) -> Seen:
    rate = rate_bps if callable(rate_bps) else (lambda _: rate_bps)
    return Call(Link(rate, **more), seconds).run()  # type: ignore[arg-type]


def test_a_clean_link_shows_every_frame_and_gets_the_full_rate() -> None:
    seen = call(30, 50_000_000)
    assert len(seen.complete_ns) >= 30 * 25 - 5
    assert seen.freezes() == 0
    assert seen.targets_bps[-1] == 4_000_000
    assert np.percentile(seen.delays_ms, 95) < 60


def test_a_link_of_one_and_a_half_megabit_never_freezes_and_is_used() -> None:
    seen = call(60, 1_500_000)
    assert seen.freezes() == 0
    assert seen.keyframes == 1
    assert seen.media_bytes * 8 / 60 > 0.6 * 1_500_000
    assert np.percentile(seen.delays_ms, 95) < 120


@pytest.mark.parametrize("loss", [0.02, 0.05])
def test_random_loss_is_repaired_within_the_budget(loss: float) -> None:
    seen = call(40, 20_000_000, loss=loss)
    assert len(seen.complete_ns) >= 40 * 25 * 0.99
    assert seen.again_bytes < 0.3 * seen.media_bytes
    assert seen.freezes() <= 1
    assert np.percentile(seen.delays_ms, 95) < 150


def test_a_step_down_and_up_is_followed() -> None:
    seen = call(70, lambda at_s: 4e6 if at_s < 20 else 8e5 if at_s < 40 else 4e6)
    targets = np.array(seen.targets_bps)
    assert targets[250:400].max() < 1_100_000
    assert seen.freezes() <= 3
    assert seen.keyframes <= 4
    assert targets[-1] > 1_200_000


def test_a_link_too_narrow_for_anything_does_not_storm() -> None:
    seen = call(30, 150_000)
    assert seen.again_bytes < 0.4 * seen.media_bytes
    assert min(seen.targets_bps) < 300_000
    assert seen.hopeless


def test_a_link_for_little_more_than_the_least_is_kept() -> None:
    seen = call(60, 450_000)
    assert not seen.hopeless
    assert seen.keyframes <= 6
    assert len(seen.complete_ns) >= 60 * 25 * 0.9
