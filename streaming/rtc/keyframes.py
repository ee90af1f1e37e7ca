"""When the next frame must be a keyframe. Many viewers ask; each keyframe costs all of them bits. Pure."""

from collections import Counter
from typing import Literal

KeyframeReason = Literal["viewer", "lost", "slow", "asked"]
"""A viewer is new, lost packets for good, fell too far behind; or the session wants one."""

_GAP_NS: dict[KeyframeReason, int] = {
    "viewer": 100_000_000,  # someone is looking at nothing
    "lost": 500_000_000,
    "slow": 1_000_000_000,
    "asked": 0,
}


class KeyframeLimiter:
    """Collects requests; one keyframe answers all that came before it.

    Attributes:
        counts: keyframes given, by the reason that brought them.
    """

    def __init__(self) -> None:
        self.counts: Counter[KeyframeReason] = Counter()
        self._wanted: set[KeyframeReason] = set()
        self._last_ns: int | None = None

    def request(self, reason: KeyframeReason) -> None:
        """Note that a keyframe is wanted."""
        self._wanted.add(reason)

    def due(self, now_ns: int) -> KeyframeReason | None:
        """Return why the next frame must be a keyframe, None if it need not."""
        passed = None if self._last_ns is None else now_ns - self._last_ns
        ready = (reason for reason in _GAP_NS if reason in self._wanted)
        return next((reason for reason in ready if passed is None or passed >= _GAP_NS[reason]), None)

    def made(self, now_ns: int, reason: KeyframeReason | None) -> None:
        """Note that a keyframe was encoded, for the reason that `due` gave or by itself."""
        self._last_ns = now_ns
        self._wanted.clear()
        if reason is not None:
            self.counts[reason] += 1
