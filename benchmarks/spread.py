"""How sure a percentile is, and whether two sets of samples differ: by bootstrap, else by range.

Samples of one run are not independent (clocks drift, caches warm), so an interval from resampling them is too
narrow for another day. Differences below `SMALLEST_CHANGE` are therefore noise whatever the interval says.
"""

from collections.abc import Sequence

import numpy as np

from engine.arrays import F64

RESAMPLES = 400
FEWEST = 10  # samples, for an interval
FEWEST_P99 = 100
SMALLEST_CHANGE = 0.03
CONFIDENCE = (2.5, 97.5)


def interval(samples: Sequence[float] | F64, percentile: float, seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of a percentile; None for too few samples."""
    values = np.asarray(samples, np.float64)
    if len(values) < (FEWEST_P99 if percentile > 95 else FEWEST):
        return None
    found = _resampled(values, percentile, np.random.default_rng(seed))
    low, high = np.percentile(found, CONFIDENCE)
    return float(low), float(high)


def ratio_interval(
    before: Sequence[float], after: Sequence[float], percentile: float = 50, seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of how much a percentile became larger; None for too few samples, or zeros."""
    old, new = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if min(len(old), len(new)) < FEWEST:
        return None
    random = np.random.default_rng(seed)
    below, above = _resampled(old, percentile, random), _resampled(new, percentile, random)
    if below.min() <= 0:
        return None
    low, high = np.percentile(above / below, CONFIDENCE)
    return float(low), float(high)


def differs(ratio: float, bounds: tuple[float, float] | None, *, overlap: bool) -> bool:
    """Whether a ratio is more than noise.

    Args:
        ratio: after over before.
        bounds: its interval, if known.
        overlap: whether the middle halves of both touch; decides where no interval is known.
    """
    if abs(ratio - 1) < SMALLEST_CHANGE:
        return False
    if bounds is None:
        return not overlap
    return not bounds[0] <= 1 <= bounds[1]


def _resampled(values: F64, percentile: float, random: np.random.Generator) -> F64:
    drawn = random.choice(values, (RESAMPLES, len(values)))
    return np.asarray(np.percentile(drawn, percentile, axis=1), np.float64)
