from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.media.pts import PtsRepair


def repaired(pts: list[int | None], frame_ticks: int = 40, second_ticks: int = 1000) -> list[int]:
    repair = PtsRepair(frame_ticks, second_ticks)
    return [repair.next(value) for value in pts]


@pytest.mark.parametrize(
    ("pts", "wanted"),
    [
        ([0, 40, 80], [0, 40, 80]),
        ([-80, -40, 0], [-80, -40, 0]),
        ([7, 8, 5000], [7, 8, 5000]),
        ([None, None, None], [0, 40, 80]),
        ([100, None, 180], [100, 140, 180]),
        ([0, 40, 40, 80], [0, 40, 41, 80]),
        ([0, 80, 40, 120], [0, 80, 81, 120]),
        ([5000, 5040, 0, 40, 80], [5000, 5040, 5080, 5120, 5160]),
    ],
)
def test_the_rules(pts: list[int | None], wanted: list[int]) -> None:
    assert repaired(pts) == wanted


@settings(deadline=None, max_examples=50)
@given(st.lists(st.none() | st.integers(-(10**6), 10**6)), st.integers(-3, 100), st.integers(0, 2000))
def test_always_increasing(pts: list[int | None], frame_ticks: int, second_ticks: int) -> None:
    fixed = repaired(pts, frame_ticks, second_ticks)
    assert len(fixed) == len(pts)
    assert all(after > before for before, after in pairwise(fixed))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-(10**9), 10**9), unique=True))
def test_good_times_pass_unchanged(pts: list[int]) -> None:
    ordered = sorted(pts)
    assert repaired(list(ordered)) == ordered
