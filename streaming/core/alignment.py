"""Moving a microphone's sound by up to 10 ms, so that its packets end where 20 ms of the media axis do.

A packet that begins shortly before a quantum ends makes that quantum wait for all of it: up to 20 ms of delay
for nothing. Nobody hears whether a translation comes 10 ms earlier or later, and its lips move with it. Where
the packets' times drift through the quanta, the sound is moved along, too slowly to be heard.
"""

from streaming.core.clock import QUANTUM_SAMPLES
from streaming.types import MEDIA_RATE_HZ

_SLACK_SAMPLES = 48  # 1 ms: capture times jitter, and just before the quantum's edge would be the worst place
_HYSTERESIS_SAMPLES = 96
_SETTLING_SAMPLES = 2 * MEDIA_RATE_HZ  # capture times are still being learnt: follow at once
_SLEW = 5e-4  # samples per sample


class Alignment:
    """How far one captured stream is moved, in samples at 48 kHz; positive: later."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._heard_samples = 0

    @property
    def offset(self) -> float:
        """Now; 0 before the first piece."""
        return self._offset or 0.0

    def place(self, first: float, length: int) -> float:
        """The place of a piece.

        Args:
            first: position of its first sample, as captured.
            length: of the piece, samples; only lengths that quanta are made of, or made of quanta, are moved.

        Returns:
            The position to use.
        """
        period = min(QUANTUM_SAMPLES, length)
        if period <= 0 or QUANTUM_SAMPLES % period or length % period:
            return first + self.offset
        self._heard_samples += length
        wanted = self._nearest(-((first - _SLACK_SAMPLES) % period), period)
        if self._offset is None or self._heard_samples < _SETTLING_SAMPLES:
            self._offset = wanted
        else:
            most = _SLEW * length
            self._offset += min(max(wanted - self._offset, -most), most)
        return first + self._offset

    def _nearest(self, wanted: float, period: int) -> float:
        """The one of `wanted + n * period` that is smallest, or nearly so and nearer to what is."""
        smallest = wanted + period if wanted < -period / 2 else wanted
        if self._offset is None:
            return smallest
        near = smallest + period * round((self._offset - smallest) / period)
        return near if abs(near) <= period / 2 + _HYSTERESIS_SAMPLES else smallest
