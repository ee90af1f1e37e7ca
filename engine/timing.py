"""Time as integers and fractions: samples, frame indices, ticks of a time base. Seconds only at the edges."""

from fractions import Fraction

AUDIO_RATE_HZ = 16_000
MEL_RATE_HZ = 100
EXPRESSION_RATE_HZ = 25  # the audio-to-expression model's output rate


def round_fraction(value: Fraction) -> int:
    """Nearest integer, halves up; exact for any size."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def samples_at(pts: int, time_base: Fraction, rate_hz: int) -> int:
    """Sample index that plays at `pts` ticks of `time_base` seconds; error at most half a sample."""
    return round_fraction(pts * time_base * rate_hz)


def ticks_at(samples: int, rate_hz: int, time_base: Fraction) -> int:
    """Ticks of `time_base` at which sample index `samples` plays; error at most half a tick."""
    return round_fraction(Fraction(samples, rate_hz) / time_base)
