"""When packets may leave: a frame is spread over time, and lost packets are sent again only within a budget.

Pure: the caller gives the time and does the waiting. Without both, a viewer on a link of 1.5 Mbit/s sees a
storm of retransmissions that never ends.
"""

from dataclasses import dataclass

from streaming.types import NS_PER_S

PACKET_OVERHEAD_BYTES = 60  # IP, UDP, SRTP tag, RTP header and extensions
_BURST_NS = 10_000_000  # most of a frame: paced whole, a frame would be whole 8 ms later
_SHORTEST_WAIT_NS = 1_000_000  # a timer of an event loop is no finer


@dataclass
class Pacer:
    """Spreads packets so that no frame goes out faster than `factor` times the target bitrate.

    Attributes:
        factor: of the target bitrate.
        free_ns: when the packets charged so far will have gone at that rate.
    """

    factor: float = 2.5
    free_ns: int = 0

    def wait_ns(self, now_ns: int, payload_bytes: int, target_bps: int) -> int:
        """Charge a packet, and return how long to wait before it is sent."""
        wait = self.free_ns - now_ns
        self.charge(now_ns, payload_bytes, target_bps)
        return wait if wait >= _SHORTEST_WAIT_NS else 0

    def charge(self, now_ns: int, payload_bytes: int, target_bps: int) -> None:
        """Count a packet that is sent at once; the ones behind it wait longer."""
        bits = (payload_bytes + PACKET_OVERHEAD_BYTES) * 8
        spent_ns = round(bits * NS_PER_S / (target_bps * self.factor))
        self.free_ns = max(self.free_ns, now_ns - _BURST_NS) + spent_ns


@dataclass
class RetransmitBudget:
    """Allows a packet again at most once per round trip, and all of them a share of the target bitrate.

    Attributes:
        share: of the target bitrate.
        depth_s: so much of the share can be saved up.
        refused: packets not sent again.
        sent_bytes: of packets sent again.
    """

    share: float = 0.3
    depth_s: float = 0.25
    refused: int = 0
    sent_bytes: int = 0
    _spent_bytes: float = 0.0
    _since_ns: int = 0

    def allow(
        self, now_ns: int, payload_bytes: int, again_ns: int | None, rtt_ns: int | None, target_bps: int
    ) -> bool:
        """Decide about one packet that a viewer reports as lost, already sent again at `again_ns`."""
        interval_ns = max(_LEAST_INTERVAL_NS, _UNKNOWN_RTT_NS if rtt_ns is None else rtt_ns)
        per_ns = target_bps * self.share / 8 / NS_PER_S
        self._spent_bytes = max(0.0, self._spent_bytes - (now_ns - self._since_ns) * per_ns)
        self._since_ns = now_ns
        size = payload_bytes + PACKET_OVERHEAD_BYTES
        affordable = self._spent_bytes + size <= per_ns * self.depth_s * NS_PER_S
        if not affordable or (again_ns is not None and now_ns - again_ns < interval_ns):
            self.refused += 1
            return False
        self._spent_bytes += size
        self.sent_bytes += size
        return True


_LEAST_INTERVAL_NS = 15_000_000
_UNKNOWN_RTT_NS = 50_000_000
