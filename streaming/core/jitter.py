"""How long to wait for a microphone's sound: as short as its network allows."""

import math

import numpy as np

_BUCKET_NS = 1_000_000
_MARGIN_BUCKETS = 3
_SHARE = 0.995  # of the sound that shall come in time
_MEMORY_NS = 3_000_000_000  # after which an observation counts for a third
_UP_NS, _DOWN_NS = 10_000_000, 500_000  # per quantum


class JitterDelay:
    """The delay before a quantum is closed.

    It goes to what 99.5 % of the latest sound needed: up by half a quantum at a time, so that sound soon
    stops being late, and 3 ms beyond that; down by 25 ms a second.

    Args:
        most_ns: never beyond it; sound that needed more is not counted, it is a stall.
    """

    def __init__(self, most_ns: int) -> None:
        self._most_ns = max(0, most_ns)
        self._weights = np.zeros(self._most_ns // _BUCKET_NS + 1, np.float64)
        self._goal_ns = self._delay_ns = 0

    @property
    def ns(self) -> int:
        """The delay now."""
        return self._delay_ns

    def observe(self, needed_ns: int, length_ns: int) -> None:
        """A piece of some length came, and would have needed this delay; negative: it was early."""
        bucket = max(0, -(-needed_ns // _BUCKET_NS))
        if bucket >= self._weights.size:
            return
        self._weights *= math.exp(-length_ns / _MEMORY_NS)
        self._weights[bucket] += length_ns
        total = np.cumsum(self._weights)
        needed = int(np.searchsorted(total, _SHARE * total[-1]))
        self._goal_ns = min(needed + _MARGIN_BUCKETS * (needed > 0), self._weights.size - 1) * _BUCKET_NS

    def forget(self) -> None:
        """The microphone is gone."""
        self._weights[:] = 0
        self._goal_ns = 0

    def step(self) -> None:
        """A quantum was closed."""
        change_ns = self._goal_ns - self._delay_ns
        self._delay_ns += min(max(change_ns, -_DOWN_NS), _UP_NS)
