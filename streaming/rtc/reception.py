"""Numbers of arriving packets: unwrapping, loss, repeats to ask for. Pure, time is passed in."""

from collections import deque
from dataclasses import dataclass

from aiortc.rtp import RtcpReceiverInfo, clamp_packets_lost

from streaming.types import NS_PER_S

NACK_EVERY_NS = 30_000_000
NACK_TRIES_MAX = 10
NACK_MISSING_MAX = 400
"""More holes than that are an outage, which a key frame mends better."""


class Unwrapper:
    """Gives numbers that wrap around at `bits` a value that does not.

    Args:
        bits: width of the wire's field.
    """

    def __init__(self, bits: int) -> None:
        self._span = 1 << bits
        self._last: int | None = None

    def __call__(self, value: int) -> int:
        """Return the value nearest to the highest so far; the first comes out one span up, never negative."""
        if self._last is None:
            self._last = value + self._span
            return self._last
        full = self.near(value)
        self._last = max(self._last, full)
        return full

    def near(self, value: int) -> int:
        """Return what `value` would come out as, without taking it for the stream's."""
        last = self._span if self._last is None else self._last
        half = self._span // 2
        return last + (value - last + half) % self._span - half


class ReceptionStats:
    """What a receiver report says about one stream (RFC 3550 §6.4.1, appendix A.3 and A.8).

    Args:
        clock_rate_hz: of the RTP timestamps.
    """

    def __init__(self, clock_rate_hz: int) -> None:
        self.received = 0
        self._rate_hz = clock_rate_hz
        self._first: int | None = None
        self._highest = 0
        self._transit: int | None = None
        self._jitter_q4 = 0
        self._timestamp = -1
        self._before = (0, 0)
        self._report: tuple[int, int] | None = None

    def add(self, number: int, timestamp: int, arrived_ns: int) -> None:
        """Count a packet with its unwrapped number and timestamp."""
        self.received += 1
        if self._first is None:
            self._first = self._highest = number
        self._highest = max(self._highest, number)
        if timestamp > self._timestamp:
            transit = arrived_ns * self._rate_hz // NS_PER_S - timestamp
            if self._transit is not None:
                self._jitter_q4 += abs(transit - self._transit) - ((self._jitter_q4 + 8) >> 4)
            self._transit, self._timestamp = transit, timestamp

    @property
    def expected(self) -> int:
        """Packets sent, as far as their numbers tell."""
        return 0 if self._first is None else self._highest - self._first + 1

    @property
    def lost(self) -> int:
        """Packets that never came; repeats may make it negative."""
        return self.expected - self.received

    @property
    def jitter_ms(self) -> float:
        """Mean deviation of the packet spacing."""
        return (self._jitter_q4 >> 4) * 1000 / self._rate_hz

    def sender_report(self, ntp: int, now_ns: int) -> None:
        """Note when the sender's last report came, so that it can measure the round trip."""
        self._report = (ntp >> 16 & 0xFFFFFFFF, now_ns)

    def report(self, ssrc: int, now_ns: int) -> RtcpReceiverInfo:
        """Return the block for the next receiver report; the loss share is since the one before."""
        expected, received = self.expected - self._before[0], self.received - self._before[1]
        self._before = (self.expected, self.received)
        missing = max(0, expected - received)
        last, delay = 0, 0
        if self._report is not None:
            last, delay = self._report[0], (now_ns - self._report[1]) * 65_536 // NS_PER_S
        return RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=min(255, (missing << 8) // expected) if expected > 0 else 0,
            packets_lost=clamp_packets_lost(self.lost),
            highest_sequence=(self._highest - _cycles(self._first or 0)) & 0xFFFFFFFF,
            jitter=min(self._jitter_q4 >> 4, 0xFFFFFFFF),
            lsr=last,
            dlsr=min(max(0, delay), 0xFFFFFFFF),
        )


def _cycles(number: int) -> int:
    """What unwrapping added to a stream's first number; reports count from the number on the wire."""
    return number & ~0xFFFF


@dataclass
class _Hole:
    tries: int
    next_ns: int


class NackList:
    """Which packets to ask for again, and when: at once, then every 30 ms, ten times at most.

    Attributes:
        every_ns: between two requests; a longer round trip than 30 ms is to be put here.
    """

    def __init__(self) -> None:
        self.every_ns = NACK_EVERY_NS
        self._highest: int | None = None
        self._holes: dict[int, _Hole] = {}

    def add(self, number: int, now_ns: int) -> bool:
        """Note a packet by its unwrapped number.

        Returns:
            False if the gap before it is too wide to be worth mending; all holes are forgotten then.
        """
        if self._highest is None:
            self._highest = number
        if number <= self._highest:
            self._holes.pop(number, None)
            return True
        gap = range(self._highest + 1, number)
        self._highest = number
        if len(gap) + len(self._holes) > NACK_MISSING_MAX:
            self._holes.clear()
            return False
        self._holes.update((missing, _Hole(0, now_ns)) for missing in gap)
        return True

    def forget_before(self, number: int) -> None:
        """Give up what is missing before `number`."""
        for missing in [missing for missing in self._holes if missing < number]:
            del self._holes[missing]

    def due(self, now_ns: int) -> list[int]:
        """Return the missing numbers to ask for now, in order, and count that as a try."""
        asked = []
        for number, hole in list(self._holes.items()):
            if hole.next_ns > now_ns:
                continue
            if hole.tries >= NACK_TRIES_MAX:
                del self._holes[number]
                continue
            hole.tries += 1
            hole.next_ns = now_ns + self.every_ns
            asked.append(number)
        return asked


class Budget:
    """Lets bytes pass up to a rate, with a burst of one second of it; what is above is dropped.

    Args:
        bits_per_s: the rate.
    """

    def __init__(self, bits_per_s: int) -> None:
        self._bytes_per_s = bits_per_s // 8
        self._left = float(self._bytes_per_s)
        self._at_ns: int | None = None

    def spend(self, size_bytes: int, now_ns: int) -> bool:
        """Whether `size_bytes` may pass now."""
        if self._at_ns is not None:
            self._left += (now_ns - self._at_ns) / NS_PER_S * self._bytes_per_s
        self._at_ns = now_ns
        self._left = min(self._left, float(self._bytes_per_s))
        if size_bytes > self._left:
            return False
        self._left -= size_bytes
        return True


class WindowMinimum:
    """The least of the values of the last `span_ns`."""

    def __init__(self, span_ns: int) -> None:
        self._span_ns = span_ns
        self._values: deque[tuple[int, int]] = deque()

    def add(self, now_ns: int, value: int) -> int:
        """Add a value and return the minimum."""
        while self._values and self._values[-1][1] >= value:
            self._values.pop()
        self._values.append((now_ns, value))
        while self._values[0][0] < now_ns - self._span_ns:
            self._values.popleft()
        return self._values[0][1]

    @property
    def least(self) -> int | None:
        """The minimum as of the last `add`, None before it."""
        return self._values[0][1] if self._values else None
