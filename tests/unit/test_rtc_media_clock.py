"""One line from media positions to RTP timestamps and to wall time."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.rtc.media_clock import MediaClock, rtp_ticks

positions = st.integers(-10_000, 1 << 40)


@settings(deadline=None, max_examples=50)
@given(position=positions)
def test_ticks_are_the_nearest(position: int) -> None:
    for rate_hz in (48_000, 90_000):
        error = rtp_ticks(position, rate_hz) - Fraction(position * rate_hz, 48_000)
        wrapped = error % (1 << 32)
        assert min(wrapped, (1 << 32) - wrapped) <= Fraction(1, 2)


def test_usual_frame_rates_are_exact() -> None:
    assert [rtp_ticks(n * 1920, 90_000) for n in range(4)] == [0, 3600, 7200, 10800]
    assert [rtp_ticks(n * 1600, 90_000) for n in range(4)] == [0, 3000, 6000, 9000]
    assert rtp_ticks(960, 48_000) == 960


@settings(deadline=None, max_examples=50)
@given(first=positions, later=positions)
def test_wall_time_passes_as_media_time_does(first: int, later: int) -> None:
    clock = MediaClock()
    clock.start(first, 5 << 60)
    passed = Fraction(clock.ntp(later) - clock.ntp(first), 1 << 32)
    assert abs(passed - Fraction(later - first, 48_000)) < Fraction(1, 1 << 30)


def test_it_starts_once() -> None:
    clock = MediaClock()
    with pytest.raises(ValueError, match="run"):
        clock.ntp(0)
    clock.start(48_000, 3 << 32)
    clock.start(0, 99 << 32)
    assert clock.ntp(96_000) == 4 << 32
