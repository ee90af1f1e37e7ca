"""Quantiles from a Prometheus histogram, linear within its buckets."""

from dataclasses import dataclass

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from engine.arrays import F64


@dataclass(frozen=True, eq=False)
class Quantiles:
    """Of one histogram, in its own unit.

    Attributes:
        count: of samples.
        edges, shares: upper edges of the buckets, and the share of samples up to each.
    """

    count: int
    edges: F64
    shares: F64

    def at(self, share: float) -> float:
        """The value that `share` of the samples do not exceed; an upper edge for those beyond the last."""
        return float(np.interp(share, np.r_[0.0, self.shares], np.r_[0.0, self.edges]))

    def above(self, value: float) -> float:
        """Share of samples above a value."""
        return 1.0 - float(np.interp(value, np.r_[0.0, self.edges], np.r_[0.0, self.shares]))

    @property
    def p25(self) -> float:
        """First quartile."""
        return self.at(0.25)

    @property
    def p50(self) -> float:
        """Median."""
        return self.at(0.5)

    @property
    def p75(self) -> float:
        """Third quartile."""
        return self.at(0.75)

    @property
    def p95(self) -> float:
        """95th percentile."""
        return self.at(0.95)

    @property
    def p99(self) -> float:
        """99th percentile."""
        return self.at(0.99)

    @property
    def most(self) -> float:
        """Upper edge of the highest bucket that has samples."""
        return float(self.edges[int(np.argmax(self.shares >= self.shares[-1]))])


def quantiles(exposition: str, name: str) -> Quantiles | None:
    """One histogram without labels out of a server's metrics; None if it has no samples."""
    buckets: dict[float, float] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name == f"{name}_bucket":
                buckets[float(sample.labels["le"])] = sample.value
    finite = sorted(edge for edge in buckets if np.isfinite(edge))
    total = buckets.get(float("inf"), 0.0)
    if not total:
        return None
    return Quantiles(int(total), np.array(finite), np.array([buckets[edge] / total for edge in finite]))
