"""The degradation ladder: what is given up when frames miss their deadlines, and how it comes back."""

from collections import deque
from enum import IntEnum

from streaming.types import NS_PER_S

MISSES_DOWN = 3
WINDOW_NS = NS_PER_S
CLEAN_NS = 10 * NS_PER_S
SETTLE_NS = NS_PER_S // 2
_LONGEST_CLEAN_NS = 8 * CLEAN_NS


class Rung(IntEnum):
    """What a session does without."""

    FULL = 0
    HALF_RATE_MOUTH = 1
    LOW_BITRATE = 2
    PASSTHROUGH = 3


class Ladder:
    """Down one rung after 3 missed deadlines in a second, up one after 10 s without any.

    What was under way when a step was taken gets half a second to clear. A rung that fails again within 10 s
    of going up to it has to stay clean twice as long before the next try, up to 80 s.
    """

    def __init__(self, now_ns: int) -> None:
        self._rung = Rung.FULL
        self._misses: deque[int] = deque(maxlen=MISSES_DOWN)
        self._changed_ns = self._clean_since_ns = now_ns
        self._went_up = False
        self._clean_ns = CLEAN_NS

    @property
    def rung(self) -> Rung:
        """Where the session stands."""
        return self._rung

    def miss(self, now_ns: int) -> None:
        """A deadline was missed."""
        self._clean_since_ns = now_ns
        if now_ns - self._changed_ns >= SETTLE_NS or not self._changed_down:
            self._misses.append(now_ns)

    def step(self, now_ns: int) -> Rung | None:
        """The new rung, if it is time to change."""
        if len(self._misses) == MISSES_DOWN and now_ns - self._misses[0] <= WINDOW_NS:
            return self._down(now_ns)
        if now_ns - self._clean_since_ns >= self._clean_ns:
            return self._up(now_ns)
        return None

    @property
    def _changed_down(self) -> bool:
        return self._rung > Rung.FULL and not self._went_up

    def _down(self, now_ns: int) -> Rung | None:
        self._misses.clear()
        if self._rung == Rung.PASSTHROUGH:
            return None
        failed_try = self._went_up and now_ns - self._changed_ns < CLEAN_NS
        self._clean_ns = min(2 * self._clean_ns, _LONGEST_CLEAN_NS) if failed_try else self._clean_ns
        return self._set(Rung(self._rung + 1), now_ns, went_up=False)

    def _up(self, now_ns: int) -> Rung | None:
        if self._rung == Rung.FULL:
            self._clean_ns, self._clean_since_ns = CLEAN_NS, now_ns
            return None
        return self._set(Rung(self._rung - 1), now_ns, went_up=True)

    def _set(self, rung: Rung, now_ns: int, *, went_up: bool) -> Rung:
        self._rung, self._went_up = rung, went_up
        self._changed_ns = self._clean_since_ns = now_ns
        self._misses.clear()
        return rung
