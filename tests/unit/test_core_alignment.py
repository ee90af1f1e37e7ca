"""Where a microphone's packets are put on the media axis."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.core.alignment import Alignment
from streaming.core.clock import QUANTUM_SAMPLES

MOST = QUANTUM_SAMPLES / 2


@settings(deadline=None, max_examples=50)
@given(first=st.floats(-1e6, 1e9), length=st.sampled_from([240, 480, 960, 1920, 2880]))
def test_packets_begin_just_after_a_quantum_does(first: float, length: int) -> None:
    placed = Alignment().place(first, length)
    assert placed % min(length, QUANTUM_SAMPLES) == pytest.approx(48, abs=1e-3)
    assert abs(placed - first) <= min(length, QUANTUM_SAMPLES) / 2 + 1e-3


@pytest.mark.parametrize("length", [0, 336, 957, 1000])
def test_packets_that_quanta_are_not_made_of_stay(length: int) -> None:
    assert Alignment().place(123.0, length) == 123.0


@pytest.mark.parametrize("ppm", [-200, 200])
def test_a_drift_is_followed_too_slowly_to_be_heard(ppm: int) -> None:
    alignment, before = Alignment(), 0.0
    step = 960 * (1 + ppm * 1e-6)
    offsets, placed = [], []
    for n in range(30_000):  # ten minutes: 120 ms of drift
        placed.append(alignment.place(100.0 + n * step, 960))
        offsets.append(alignment.offset)
        if n > 200:
            assert abs(alignment.offset - before) <= 0.48 + 1e-9
        before = alignment.offset
    assert max(abs(offset) for offset in offsets) <= MOST + 96 + 1
    aligned = sum(abs((place - 48 + MOST) % 960 - MOST) < 5 for place in placed)
    assert aligned > 0.5 * len(placed)  # else it is on its way over a whole quantum


def test_jitter_at_the_edge_does_not_make_it_jump() -> None:
    alignment = Alignment()
    offsets = set()
    for n in range(1000):
        alignment.place(48 + 480 + 20 * (-1) ** n + 960.0 * n, 960)
        offsets.add(round(alignment.offset, 3))
    assert max(offsets) - min(offsets) <= 41
