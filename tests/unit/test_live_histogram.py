import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from benchmarks.live.histogram import quantiles


def test_quantiles_come_back_within_a_bucket() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("late_seconds", "x", buckets=[k / 200 for k in range(1, 101)], registry=registry)
    values = np.random.default_rng(0).uniform(0.1, 0.3, 2000)
    for value in values:
        histogram.observe(value)
    found = quantiles(generate_latest(registry).decode(), "late_seconds")
    assert found is not None
    assert found.count == 2000
    for share, got in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        assert got == pytest.approx(float(np.quantile(values, share)), abs=0.005)
    assert found.most == pytest.approx(0.3, abs=0.006)
    assert found.above(0.2) == pytest.approx(float((values > 0.2).mean()), abs=0.02)


def test_a_histogram_without_samples_has_none() -> None:
    registry = CollectorRegistry()
    Histogram("late_seconds", "x", registry=registry)
    assert quantiles(generate_latest(registry).decode(), "late_seconds") is None
    assert quantiles("", "late_seconds") is None
