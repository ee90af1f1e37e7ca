import numpy as np
import pytest

from streaming.core.clock import CaptureClock, FrameRhythm, MediaClock, ns_of, samples_of
from tests.support.live_sim import MS, SECOND, regular


def test_positions_and_time_are_exact_for_years() -> None:
    clock = MediaClock(123_456_789)
    for position in (0, 1, 960, 48_000 * 86_400 * 1000 + 7):
        assert clock.position(clock.ns(position)) == position
    assert clock.position(123_456_789 - SECOND) == -48_000
    assert (samples_of(SECOND), ns_of(48_000), ns_of(960)) == (48_000, SECOND, 20 * MS)


def test_honest_capture_times_are_believed() -> None:
    clock = CaptureClock()
    rng = np.random.default_rng(1)
    for at_ns in regular(50, 10 * SECOND):
        assert clock.correct(at_ns, at_ns + int(rng.integers(5, 140)) * MS) == at_ns


def test_the_future_is_moved_to_now_and_keeps_its_spacing() -> None:
    clock = CaptureClock()
    moved = [clock.correct(at_ns + 7 * SECOND, at_ns) for at_ns in regular(50, 3 * SECOND)]
    np.testing.assert_array_equal(moved, regular(50, 3 * SECOND))


def test_a_clock_that_is_behind_is_moved_within_a_second() -> None:
    clock = CaptureClock()
    moved = [clock.correct(at_ns - 60 * SECOND, at_ns) for at_ns in regular(50, 3 * SECOND)]
    np.testing.assert_array_equal(moved[60:], np.array(regular(50, 3 * SECOND)[60:]) - 40 * MS)


@pytest.mark.parametrize("rate_hz", [24_000 / 1001, 25, 30, 60])
def test_jitter_of_frame_times_is_taken_out(rate_hz: float) -> None:
    rhythm = FrameRhythm()
    rng = np.random.default_rng(2)
    times = np.array(regular(rate_hz, 20 * SECOND))
    noisy = times + rng.integers(-2 * MS, 2 * MS, times.size)
    smooth = np.array([rhythm.smooth(int(at)) for at in noisy])
    assert np.abs(smooth - times)[100:].std() < 0.5 * np.abs(noisy - times)[100:].std()
    assert np.abs(smooth - noisy).max() <= 5 * MS
    assert rhythm.interval_ns == pytest.approx(SECOND / rate_hz, rel=0.02)


def test_a_rate_that_changes_is_noticed() -> None:
    rhythm = FrameRhythm()
    for at_ns in regular(60, SECOND):
        assert rhythm.smooth(at_ns) == pytest.approx(at_ns, abs=5 * MS)
    for at_ns in regular(15, 3 * SECOND, SECOND):
        assert rhythm.smooth(at_ns) == pytest.approx(at_ns, abs=5 * MS)
    assert rhythm.interval_ns == pytest.approx(SECOND / 15, rel=0.02)


def test_a_missing_frame_does_not_change_the_rate() -> None:
    rhythm = FrameRhythm()
    times = regular(25, 2 * SECOND)
    for at_ns in [*times[:20], *times[23:]]:
        assert rhythm.smooth(at_ns) == pytest.approx(at_ns, abs=5 * MS)
        assert rhythm.interval_ns == pytest.approx(40 * MS, rel=0.01)


def test_one_frame_an_hour_does_not_last_an_hour() -> None:
    rhythm = FrameRhythm()
    for at_s in (0, 1, 3600, 7200):
        rhythm.smooth(at_s * SECOND)
    assert rhythm.interval_ns <= 100 * MS
