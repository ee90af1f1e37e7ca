"""When the next frame must be a keyframe. Many viewers ask; each keyframe costs all of them bits. Pure."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from streaming.types import NS_PER_S

KeyframeReason = Literal["viewer", "lost", "slow", "asked"]
"""A viewer is new, lost packets for good, fell too far behind; or the session wants one."""

SHARE = 0.4
"""Of the bitrate, for keyframes that make good what viewers lost."""

_GAP_NS: dict[KeyframeReason, int] = {
    "viewer": 100_000_000,  # someone is looking at nothing
    "lost": 500_000_000,
    "slow": 3_000_000_000,  # the others pay for it
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
        self._rest_ns = 0

    def request(self, reason: KeyframeReason) -> None:
        """Note that a keyframe is wanted."""
        self._wanted.add(reason)

    def due(self, now_ns: int) -> KeyframeReason | None:
        """Return why the next frame must be a keyframe, None if it need not."""
        passed = None if self._last_ns is None else now_ns - self._last_ns
        ready = (reason for reason in _GAP_NS if reason in self._wanted)
        return next((reason for reason in ready if passed is None or passed >= self._gap_ns(reason)), None)

    def made(
        self, now_ns: int, reason: KeyframeReason | None, size_bytes: int = 0, target_bps: int = 1
    ) -> None:
        """Note that a keyframe was encoded, for the reason that `due` gave or by itself.

        Keyframes for lost pictures get `SHARE` of the bitrate: the next one waits until this one is paid for.
        """
        self._last_ns = now_ns
        self._rest_ns = round(size_bytes * 8 * NS_PER_S / (target_bps * SHARE))
        self._wanted.clear()
        if reason is not None:
            self.counts[reason] += 1

    def _gap_ns(self, reason: KeyframeReason) -> int:
        return max(_GAP_NS[reason], self._rest_ns if reason in ("lost", "slow") else 0)


@dataclass
class KeyframeUnderWay:
    """Knows whether a viewer's request for a keyframe is answered by the one it is just getting.

    On a narrow link a keyframe takes longer to arrive than receivers wait before they ask again; answering
    each request would fill the link with keyframes of which none arrives whole.

    Attributes:
        sending: whether the packets of one are leaving.
        sent_ns: when the last packet of the last one left.
    """

    sending: bool = False
    sent_ns: int | None = None

    def begins(self) -> None:
        """Note that the first packet of a keyframe leaves."""
        self.sending = True

    def ends(self, now_ns: int) -> None:
        """Note that its last packet has left."""
        self.sending, self.sent_ns = False, now_ns

    def answers(self, now_ns: int, rtt_ns: int | None) -> bool:
        """Whether a request that comes now was sent before the viewer could have decoded that keyframe."""
        if self.sending or self.sent_ns is None:
            return self.sending
        return now_ns - self.sent_ns < (_UNKNOWN_RTT_NS if rtt_ns is None else rtt_ns) + _DECODE_NS


_UNKNOWN_RTT_NS = 50_000_000
_DECODE_NS = 50_000_000
