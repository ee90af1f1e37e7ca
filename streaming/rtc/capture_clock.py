"""When a packet's picture or sound was captured, on this machine's monotonic clock.

A sender's reports pair its wall clock (NTP) with RTP timestamps. Audio and video of one sender share that
wall clock, so both are moved to our clock by the same offset, the one with the smallest network delay, and
stay in step however different their delays are. Until the first report, arrival times stand in.
"""

from streaming.rtc.reception import WindowMinimum
from streaming.types import NS_PER_S

_WINDOW_NS = 15 * NS_PER_S  # 200 ppm of drift move the minimum by 3 ms
_SLEW = 0.025  # s of correction per s: 25 ms of error are gone in a second, an interval changes by 1 ms of 40
_FAST_SLEW = 0.25  # while the mapping is impossible
_SETTLING_NS = NS_PER_S  # in the beginning the mapping just follows
_STEP_NS = 250_000_000  # beyond it the old mapping was wrong, not late


def ntp_to_ns(ntp: int) -> int:
    """Nanoseconds of a 64-bit NTP time (32.32 fixed point seconds)."""
    return ntp * NS_PER_S >> 32


class SenderClock:
    """A sender's wall clock as seen from here; one per connection, shared by its streams."""

    def __init__(self) -> None:
        self._offset = WindowMinimum(_WINDOW_NS)

    def report(self, sent_ns: int, arrived_ns: int) -> None:
        """Note a report sent at `sent_ns` of the sender's clock."""
        self._offset.add(arrived_ns, arrived_ns - sent_ns)

    @property
    def offset_ns(self) -> int | None:
        """What to add to the sender's wall clock, or None before a report came."""
        return self._offset.least


class CaptureClock:
    """Maps the RTP timestamps of one stream to monotonic nanoseconds, smoothly.

    Args:
        rate_hz: of the timestamps.
        sender: the clock that the reports of all streams of the connection feed.
    """

    def __init__(self, rate_hz: int, sender: SenderClock) -> None:
        self._rate_hz = rate_hz
        self._sender = sender
        self._arrival = WindowMinimum(_WINDOW_NS)
        self._reported = WindowMinimum(_WINDOW_NS)
        self._base_ns: int | None = None
        self._began_ns: int | None = None
        self._moved_at_ns = 0
        self._given: tuple[int, int] | None = None

    def media_ns(self, timestamp: int) -> int:
        """Nanoseconds since timestamp 0."""
        return timestamp * NS_PER_S // self._rate_hz

    def arrived(self, timestamp: int, now_ns: int) -> None:
        """Note a packet's unwrapped timestamp and arrival."""
        self._arrival.add(now_ns, now_ns - self.media_ns(timestamp))

    def report(self, ntp: int, timestamp: int, now_ns: int) -> None:
        """Note a sender report: `timestamp`, unwrapped, is `ntp`."""
        sent_ns = ntp_to_ns(ntp)
        self._sender.report(sent_ns, now_ns)
        self._reported.add(now_ns, sent_ns - self.media_ns(timestamp))

    def captured_ns(self, timestamp: int, now_ns: int) -> int:
        """When `timestamp` was captured; needs an `arrived` before.

        Call in the order of time. Later timestamps come out later, also while the mapping moves back, and
        nothing comes out later than now.
        """
        target_ns = self._target_ns()
        if self._base_ns is None or self._began_ns is None:
            self._base_ns, self._began_ns = target_ns, now_ns
        elif abs(target_ns - self._base_ns) > _STEP_NS or now_ns - self._began_ns < _SETTLING_NS:
            self._base_ns = target_ns
        else:
            impossible = self._arrival.least is not None and self._base_ns > self._arrival.least
            slew = _FAST_SLEW if impossible else _SLEW
            most_ns = int(max(0, self.media_ns(timestamp) - self._moved_at_ns) * slew)
            self._base_ns += max(-most_ns, min(most_ns, target_ns - self._base_ns))
        self._moved_at_ns = self.media_ns(timestamp)
        captured_ns, before = min(now_ns, self._base_ns + self.media_ns(timestamp)), self._given
        if before is not None and timestamp > before[0]:
            captured_ns = max(captured_ns, before[1] + 1)
        self._given = (timestamp, captured_ns)
        return captured_ns

    def _target_ns(self) -> int:
        reported_ns, offset_ns = self._reported.least, self._sender.offset_ns
        if self._arrival.least is None:
            raise ValueError("captured_ns() before the first arrived()")
        if reported_ns is None or offset_ns is None:
            return self._arrival.least
        return min(reported_ns + offset_ns, self._arrival.least)  # nothing arrives before it was captured
