import numpy as np
import pytest

from benchmarks.spread import differs, interval, ratio_interval

RANDOM = np.random.default_rng(0)
TEN = list(RANDOM.normal(10, 1, 200))


def test_an_interval_holds_what_it_is_of() -> None:
    found = interval(TEN, 50)
    assert found is not None
    assert found[0] < np.median(TEN) < found[1]
    assert found[1] - found[0] < 1


def test_more_samples_make_it_narrower() -> None:
    few, many = interval(TEN[:20], 50), interval(TEN, 50)
    assert few is not None
    assert many is not None
    assert many[1] - many[0] < few[1] - few[0]


@pytest.mark.parametrize(("count", "percentile"), [(9, 50), (99, 99)])
def test_few_samples_have_none(count: int, percentile: float) -> None:
    assert interval(TEN[:count], percentile) is None


def test_it_is_the_same_again() -> None:
    assert interval(TEN, 50) == interval(TEN, 50)


def test_a_ratio_is_found() -> None:
    found = ratio_interval(TEN, [1.5 * value for value in TEN])
    assert found is not None
    assert found[0] < 1.5 < found[1]


@pytest.mark.parametrize(("before", "after"), [(TEN[:5], TEN), (TEN, TEN[:5]), ([0.0] * 20, TEN)])
def test_no_ratio_of_little_or_of_nothing(before: list[float], after: list[float]) -> None:
    assert ratio_interval(before, after) is None


@pytest.mark.parametrize(
    ("ratio", "bounds", "overlap", "expected"),
    [
        (1.02, (1.01, 1.03), False, False),
        (1.2, (1.1, 1.3), True, True),
        (1.2, (0.9, 1.5), False, False),
        (1.2, None, True, False),
        (0.5, None, False, True),
    ],
)
def test_noise(ratio: float, bounds: tuple[float, float] | None, overlap: bool, expected: bool) -> None:
    assert differs(ratio, bounds, overlap=overlap) is expected
