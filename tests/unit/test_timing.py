from fractions import Fraction

import pytest

from engine.timing import AUDIO_RATE_HZ, round_fraction, samples_at, ticks_at

FRAME_RATES = [Fraction(25), Fraction(30), Fraction(50), Fraction(30_000, 1001), Fraction(24_000, 1001)]


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (Fraction(1, 2), 1),
        (Fraction(-1, 2), 0),
        (Fraction(3, 2), 2),
        (Fraction(49, 100), 0),
        (Fraction(-51, 100), -1),
        (Fraction(7), 7),
        (Fraction(10**40 + 1, 2), (10**40 + 2) // 2),
    ],
)
def test_rounding_is_to_the_nearest_halves_up(value: Fraction, rounded: int) -> None:
    assert round_fraction(value) == rounded


@pytest.mark.parametrize("rate", FRAME_RATES)
@pytest.mark.parametrize("frame", [0, 1, 2, 1000, 10**7, 10**12])
def test_frames_never_drift_from_their_samples(rate: Fraction, frame: int) -> None:
    sample = samples_at(frame, 1 / rate, AUDIO_RATE_HZ)
    assert abs(sample - frame * AUDIO_RATE_HZ / rate) <= Fraction(1, 2)
    assert ticks_at(sample, AUDIO_RATE_HZ, 1 / rate) == frame


def test_ticks_of_a_fine_time_base() -> None:
    assert ticks_at(640, AUDIO_RATE_HZ, Fraction(1, 90_000)) == 3600
    assert samples_at(3600, Fraction(1, 90_000), AUDIO_RATE_HZ) == 640
    assert ticks_at(1, 44_100, Fraction(1, 90_000)) == 2
