"""What bitrate the publisher is told that it may send (REMB).

aiortc's estimator starts near zero and needs 20 s to let a browser send a face that is large enough. So a
floor is told until the link was seen to be overused. It also takes a pause of this process for a jam on the
link, and then talks the sender down to nothing: what is measured during such pauses is left out, and below a
least bitrate nothing is told, because a face that is smaller than that is of no use.
"""

from aiortc.rate import BandwidthUsage, RemoteBitrateEstimator

from streaming.types import NS_PER_S

_QUIET_NS = 8 * NS_PER_S
_EVERY_NS = NS_PER_S // 2
_PAUSE_NS = NS_PER_S


class Remb:
    """Estimates from packet spacing.

    Args:
        floor_bps: told at least, unless the link was overused in the last 8 s.
        ceiling_bps: told at most.
        least_bps: told at least, whatever the link.
    """

    def __init__(self, floor_bps: int, ceiling_bps: int, least_bps: int = 600_000) -> None:
        self._floor_bps = floor_bps
        self._least_bps = least_bps
        self._ceiling_bps = ceiling_bps
        self._estimator = RemoteBitrateEstimator()
        self._overused_ns: int | None = None
        self._told_ns: int | None = None
        self._paused_ns: int | None = None

    def paused(self, now_ns: int) -> None:
        """Note that this process was late: arrival times of the next second tell nothing about the link."""
        self._paused_ns = now_ns
        self._estimator = RemoteBitrateEstimator()

    def packet(self, sent_24_bits: int | None, size_bytes: int, ssrc: int, now_ns: int) -> int | None:
        """Note a media packet.

        Args:
            sent_24_bits: its abs-send-time, if it has one.
            size_bytes: of the payload.
            ssrc: of the packet.
            now_ns: monotonic.

        Returns:
            The bitrate to report now, bit/s, or None.
        """
        estimate = self._estimate(sent_24_bits, size_bytes, ssrc, now_ns)
        quiet = self._overused_ns is None or now_ns - self._overused_ns > _QUIET_NS
        due = self._told_ns is None or now_ns - self._told_ns >= _EVERY_NS
        if estimate is None and not (quiet and due):
            return None
        self._told_ns = now_ns
        return min(self._ceiling_bps, max(estimate or 0, self._floor_bps if quiet else self._least_bps))

    def _estimate(self, sent_24_bits: int | None, size_bytes: int, ssrc: int, now_ns: int) -> int | None:
        paused = self._paused_ns is not None and now_ns - self._paused_ns < _PAUSE_NS
        if sent_24_bits is None or paused:
            return None
        report = self._estimator.add(
            arrival_time_ms=now_ns // 1_000_000,
            abs_send_time=sent_24_bits,
            payload_size=size_bytes,
            ssrc=ssrc,
        )
        if self._estimator.detector.state() == BandwidthUsage.OVERUSING:
            self._overused_ns = now_ns
        return None if report is None else report[0]
