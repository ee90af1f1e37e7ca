"""The degradation ladder: what is given up when frames miss their deadlines, and how it comes back."""

from collections import deque
from enum import IntEnum

from streaming.types import NS_PER_S

MOMENT_NS = NS_PER_S // 5
SETTLE_NS = NS_PER_S // 2
CALM_NS, CALM_MOMENTS = 10 * NS_PER_S, 2
WAIT_NS, LONGEST_WAIT_NS = 10 * NS_PER_S, 80 * NS_PER_S
HELD_NS = 10 * NS_PER_S
_LIMITS = ((3, NS_PER_S), (8, 10 * NS_PER_S))  # so many moments within that time are too many
_LAST_LIMITS = ((5, NS_PER_S), (8, 5 * NS_PER_S))  # for the whole dub to be given up
_KEPT = 8


class Rung(IntEnum):
    """What a session does without."""

    FULL = 0
    HALF_RATE_MOUTH = 1
    LOW_BITRATE = 2
    PASSTHROUGH = 3


class Ladder:
    """Down one rung when deadlines go on being missed, up one after a wait, tried again ever more seldom.

    What counts are moments: missed deadlines within 200 ms are one. A single stall, however many frames it
    costs, is no load that doing less would lighten. Three moments in a second or eight in ten lead down; to
    pass the source through, five in a second or eight in five. What was under way when a step down was taken
    gets half a second to clear.

    Up goes a rung after 10 s, if the last 10 s had at most two moments; from passing through in any case, as
    a worker that is asked for nothing misses nothing. A rung in which trouble began again within 10 s of such
    a try waits twice as long for the next, up to 80 s; one that held for longer half as long.
    """

    def __init__(self, now_ns: int) -> None:
        self._rung = Rung.FULL
        self._moments: deque[int] = deque(maxlen=_KEPT)
        self._changed_ns = self._settled_ns = now_ns
        self._waits_ns = dict.fromkeys(Rung, WAIT_NS)  # before each is tried
        self._tried_ns: dict[Rung, int] = {}  # when each was gone up to, until it is left downwards

    @property
    def rung(self) -> Rung:
        """Where the session stands."""
        return self._rung

    def miss(self, now_ns: int) -> None:
        """A deadline was missed."""
        if now_ns < self._settled_ns:
            return
        if not self._moments or now_ns - self._moments[-1] >= MOMENT_NS:
            self._moments.append(now_ns)

    def step(self, now_ns: int) -> Rung | None:
        """The new rung, if it is time to change."""
        began_ns = self._trouble_since_ns(now_ns)
        if began_ns is not None:
            return self._down(now_ns, began_ns)
        if self._may_go_up(now_ns):
            return self._up(now_ns)
        return None

    def _trouble_since_ns(self, now_ns: int) -> int | None:
        """When the moments began that are too many; None if they are not."""
        if self._rung is Rung.PASSTHROUGH:
            return None
        for most, within_ns in _LAST_LIMITS if self._rung is Rung.LOW_BITRATE else _LIMITS:
            latest = self._latest(now_ns - within_ns)
            if len(latest) >= most:
                return latest[0]
        return None

    def _may_go_up(self, now_ns: int) -> bool:
        if self._rung is Rung.FULL or now_ns - self._changed_ns < self._waits_ns[Rung(self._rung - 1)]:
            return False
        return self._rung is Rung.PASSTHROUGH or len(self._latest(now_ns - CALM_NS)) <= CALM_MOMENTS

    def _latest(self, since_ns: int) -> list[int]:
        return [moment_ns for moment_ns in self._moments if moment_ns >= since_ns]

    def _down(self, now_ns: int, began_ns: int) -> Rung:
        tried_ns = self._tried_ns.pop(self._rung, None)
        if tried_ns is not None:
            held, wait_ns = began_ns - tried_ns >= HELD_NS, self._waits_ns[self._rung]
            self._waits_ns[self._rung] = (
                max(WAIT_NS, wait_ns // 2) if held else min(2 * wait_ns, LONGEST_WAIT_NS)
            )
        self._settled_ns = now_ns + SETTLE_NS
        return self._set(Rung(self._rung + 1), now_ns)

    def _up(self, now_ns: int) -> Rung:
        rung = Rung(self._rung - 1)
        self._tried_ns[rung] = now_ns
        return self._set(rung, now_ns)

    def _set(self, rung: Rung, now_ns: int) -> Rung:
        self._rung, self._changed_ns = rung, now_ns
        self._moments.clear()
        return rung
