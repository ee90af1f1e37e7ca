"""How many bits per second a viewer's link is thought to carry, from what its receiver reports.

Loss counts in the manner of Google Congestion Control (draft-ietf-rmcat-gcc-02 §6): above 10 % the rate is
cut, below 2 % it grows, between it holds. The receiver's own estimate (REMB) never lets it grow further, and
cuts it when the link is in use: receivers estimate little where little is sent, which tells nothing.
Pure: the caller gives the time.
"""

from collections import deque
from dataclasses import dataclass

from streaming.types import NS_PER_S

_LOSS_LOW, _LOSS_HIGH = 0.02, 0.10
_GROWTH_PER_S, _WARY_GROWTH_PER_S = 1.08, 1.02
_WARY_NS = 20 * NS_PER_S
_ABOVE_SENT = 2.0  # a link that carries 1 Mbit/s proves nothing about 3
_LEAST_PACKETS = 20
_IN_USE = 0.95  # a receiver that sees the link overused says 0.85 of what it gets, else rather more than that
_DEEP_CUT = 0.95
_HOPELESS_NS = 10 * NS_PER_S


@dataclass(frozen=True)
class RateOptions:
    """Limits of the bitrate of a rendition, bit/s.

    Attributes:
        start_bps: before anything is known; a link of 1.5 Mbit/s must bear it together with the sound.
        least_bps: below it the picture is not worth sending: such a viewer is not followed, and dropped.
        most_bps: never above.
    """

    start_bps: int = 1_200_000
    least_bps: int = 300_000
    most_bps: int = 4_000_000

    def __post_init__(self) -> None:
        """Raise ValueError unless the limits are in order."""
        if not 0 < self.least_bps <= self.start_bps <= self.most_bps:
            raise ValueError(f"{self} must be in order: 0 < least <= start <= most")


class RateMeter:
    """Bits per second over the last second."""

    def __init__(self) -> None:
        self._parts: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def add(self, now_ns: int, size_bytes: int) -> None:
        """Count bytes."""
        self._parts.append((now_ns, size_bytes))
        self._bytes += size_bytes
        self._forget(now_ns)

    def bps(self, now_ns: int) -> float:
        """Return the rate."""
        self._forget(now_ns)
        return self._bytes * 8.0

    def _forget(self, now_ns: int) -> None:
        while self._parts and now_ns - self._parts[0][0] > NS_PER_S:
            self._bytes -= self._parts.popleft()[1]


class RateControl:
    """The estimate for one viewer."""

    def __init__(self, options: RateOptions, now_ns: int) -> None:
        self._options = options
        self._estimate_bps = float(options.start_bps)
        self._remb_bps = float("inf")
        self._sent = RateMeter()
        self._decided_ns = now_ns
        self._lost = self._expected = 0
        self._cut_ns: int | None = None
        self._poor_since_ns: int | None = None

    @property
    def estimate_bps(self) -> int:
        """What the link is thought to carry; may lie below what is worth sending."""
        return round(self._estimate_bps)

    @property
    def target_bps(self) -> int:
        """The estimate, at least `least_bps`."""
        return max(self._options.least_bps, self.estimate_bps)

    def sent(self, now_ns: int, size_bytes: int) -> None:
        """Count what was sent."""
        self._sent.add(now_ns, size_bytes)

    def report(self, now_ns: int, lost: int, expected: int) -> None:
        """Take in a receiver report: of `expected` packets since the last one, `lost` did not come.

        Browsers send one with every request for a lost packet, so each speaks of few packets. They are summed
        up over a second before anything follows from them.
        """
        self._lost += lost
        self._expected += expected
        passed_ns = now_ns - self._decided_ns
        if passed_ns < NS_PER_S or self._expected < _LEAST_PACKETS:
            return
        loss = self._lost / self._expected
        self._decided_ns, self._lost, self._expected = now_ns, 0, 0
        if loss > _LOSS_HIGH:
            self._cut(now_ns, self._estimate_bps * (1 - 0.5 * loss))
        elif loss < _LOSS_LOW:
            self._grow(now_ns, min(passed_ns / NS_PER_S, 2.0))
        if loss <= _LOSS_HIGH or self._estimate_bps >= self._options.least_bps:
            self._poor_since_ns = None
        elif self._poor_since_ns is None:
            self._poor_since_ns = now_ns

    def remb(self, now_ns: int, bps: int) -> None:
        """Take in the receiver's estimated maximum bitrate."""
        self._remb_bps = float(bps)
        if bps < self._estimate_bps and bps < _IN_USE * self._sent.bps(now_ns):
            self._cut(now_ns, float(bps))

    def hopeless(self, now_ns: int) -> bool:
        """Whether for ten seconds the link has lost much even of the least worth sending.

        A low estimate alone is no reason: where a machine is too busy, receivers see delays and blame the
        link.
        """
        return self._poor_since_ns is not None and now_ns - self._poor_since_ns >= _HOPELESS_NS

    def _cut(self, now_ns: int, bps: float) -> None:
        if bps < _DEEP_CUT * self._estimate_bps:
            self._cut_ns = now_ns
        self._estimate_bps = max(bps, 0.9 * self._options.least_bps)

    def _grow(self, now_ns: int, seconds: float) -> None:
        wary = self._cut_ns is not None and now_ns - self._cut_ns < _WARY_NS
        grown = self._estimate_bps * (_WARY_GROWTH_PER_S if wary else _GROWTH_PER_S) ** seconds
        proven = max(_ABOVE_SENT * self._sent.bps(now_ns), self._options.least_bps)
        allowed = min(grown, proven, self._remb_bps, float(self._options.most_bps))
        self._estimate_bps = max(self._estimate_bps, allowed)
