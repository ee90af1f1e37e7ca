"""How long to wait for a programme that went away, and how often to ask. Pure: times are given."""

from streaming.types import NS_PER_S

FIRST_S, LONGEST_S = 0.5, 8.0  # pauses double from one to the other
STEADY_S = 5.0  # of pictures, and the next outage is a new one
GONE_S = 60.0  # without a picture: it does not come back


class Patience:
    """Pauses between attempts; none for what never gave a picture, whose address is rather wrong."""

    def __init__(self) -> None:
        self._picture_ns: int | None = None
        self._since_ns: int | None = None
        self._attempts = 0

    @property
    def picture_ns(self) -> int | None:
        """When the latest picture came; None: none ever did."""
        return self._picture_ns

    def picture(self, now_ns: int) -> bool:
        """A picture came; returns whether it is the first one, or the first after an outage."""
        first = self._since_ns is None
        if self._since_ns is None:
            self._since_ns = now_ns
        if now_ns - self._since_ns >= STEADY_S * NS_PER_S:
            self._attempts = 0
        self._picture_ns = now_ns
        return first

    def pause_s(self, now_ns: int) -> float | None:
        """It is gone: how long to wait before asking again; None: do not."""
        self._since_ns = None
        if self._picture_ns is None:
            return None
        left_s = GONE_S - (now_ns - self._picture_ns) / NS_PER_S
        if left_s <= 0:
            return None
        pause_s = min(FIRST_S * 2.0 ** min(self._attempts, 10), LONGEST_S, left_s)
        self._attempts += 1
        return pause_s
