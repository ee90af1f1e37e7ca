"""Media positions as RTP timestamps and as wall time: one line for picture and sound. Pure."""

from streaming.types import MEDIA_RATE_HZ

_NTP_MASK = (1 << 64) - 1
_TICKS_MASK = (1 << 32) - 1


def rtp_ticks(position: int, clock_rate_hz: int) -> int:
    """Media position in 32-bit ticks of an RTP clock: the nearest one, halves up; exact at 48 kHz."""
    return (2 * position * clock_rate_hz + MEDIA_RATE_HZ) // (2 * MEDIA_RATE_HZ) & _TICKS_MASK


class MediaClock:
    """Maps media positions to wall time for one viewer's sender reports, the same for picture and sound."""

    def __init__(self) -> None:
        self._zero_ntp: int | None = None

    def start(self, position: int, ntp: int) -> None:
        """Let `position` be at `ntp`, unless the clock runs already."""
        if self._zero_ntp is None:
            self._zero_ntp = ntp - (position << 32) // MEDIA_RATE_HZ

    def ntp(self, position: int) -> int:
        """64-bit NTP time of a media position; the clock must run."""
        if self._zero_ntp is None:
            raise ValueError("the clock does not run yet")
        return (self._zero_ntp + (position << 32) // MEDIA_RATE_HZ) & _NTP_MASK
