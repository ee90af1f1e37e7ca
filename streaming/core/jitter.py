"""How long to wait for a microphone's sound: as short as its network allows."""

import numpy as np

_BUCKET_NS = 5_000_000
_SHARE = 0.97  # of the pieces that shall come in time
_FORGETTING = 0.998
_UP_NS, _DOWN_NS = 10_000_000, 500_000  # per quantum


class JitterDelay:
    """The delay before a quantum is closed.

    It goes to what 97 % of the last 500 or so pieces needed: up by half a quantum at a time, so that sound
    soon stops being late, down by 25 ms a second.

    Args:
        most_ns: never beyond it; pieces that needed more are not counted, they are a stall.
    """

    def __init__(self, most_ns: int) -> None:
        self._most_ns = max(0, most_ns)
        self._weights = np.zeros(self._most_ns // _BUCKET_NS + 1, np.float64)
        self._goal_ns = self._delay_ns = 0

    @property
    def ns(self) -> int:
        """The delay now."""
        return self._delay_ns

    def observe(self, needed_ns: int) -> None:
        """A piece came that would have needed this delay; negative: it was early."""
        bucket = max(0, -(-needed_ns // _BUCKET_NS))
        if bucket >= self._weights.size:
            return
        self._weights *= _FORGETTING
        self._weights[bucket] += 1
        total = np.cumsum(self._weights)
        self._goal_ns = int(np.searchsorted(total, _SHARE * total[-1])) * _BUCKET_NS

    def forget(self) -> None:
        """The microphone is gone."""
        self._weights[:] = 0
        self._goal_ns = 0

    def step(self) -> None:
        """A quantum was closed."""
        change_ns = self._goal_ns - self._delay_ns
        self._delay_ns += min(max(change_ns, -_DOWN_NS), _UP_NS)
