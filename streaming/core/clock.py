"""The media clock, the clocks of sources, and the rhythm of a camera."""

from dataclasses import dataclass

from streaming.types import MEDIA_RATE_HZ, NS_PER_S

QUANTUM_SAMPLES = 960
QUANTUM_NS = NS_PER_S * QUANTUM_SAMPLES // MEDIA_RATE_HZ
_NS_PER_SIX_SAMPLES = 6 * NS_PER_S // MEDIA_RATE_HZ  # 125,000, exact

_TRANSIT_WINDOW_NS = NS_PER_S
_HIGHEST_TRANSIT_NS = 150_000_000
_USUAL_TRANSIT_NS = 40_000_000

_FIRST_INTERVAL_NS = 40_000_000
_LONGEST_INTERVAL_NS = 100_000_000
_SMOOTHED_NS = 5_000_000
_MISSING_IN_A_ROW = 3  # steps of several frames: after more of them, it is another rate
_PHASE_GAIN, _INTERVAL_GAIN = 0.1, 0.01


def samples_of(duration_ns: int) -> int:
    """Samples at 48 kHz that a duration, also a negative one, has; the nearest whole number."""
    return (duration_ns * 6 + _NS_PER_SIX_SAMPLES // 2) // _NS_PER_SIX_SAMPLES


def ns_of(samples: int) -> int:
    """How long a number of samples at 48 kHz lasts, ns."""
    return samples * _NS_PER_SIX_SAMPLES // 6


@dataclass(frozen=True, slots=True)
class MediaClock:
    """Media positions and monotonic time of one session.

    Attributes:
        zero_ns: when media position 0 was captured.
    """

    zero_ns: int

    def position(self, ns: int) -> int:
        """Media position, samples at 48 kHz, of what was captured at `ns`; negative before the zero."""
        return samples_of(ns - self.zero_ns)

    def ns(self, position: int) -> int:
        """When a media position was captured."""
        return self.zero_ns + ns_of(position)


class CaptureClock:
    """Believes a source's capture times, within reason.

    A source that claims to film the future, or whose pictures all take longer than 150 ms to come, has
    another clock than it thinks: its times are moved, and keep their spacing.
    """

    def __init__(self) -> None:
        self._offset_ns = 0
        self._window_ends_ns: int | None = None
        self._least_ns = 0

    def correct(self, captured_ns: int, now_ns: int) -> int:
        """The time to go by, for what arrived now and claims `captured_ns`; never after `now_ns`."""
        transit_ns = now_ns - captured_ns - self._offset_ns
        if transit_ns < 0:
            self._offset_ns += transit_ns
            transit_ns = 0
        self._observe(transit_ns, now_ns)
        return captured_ns + self._offset_ns

    def _observe(self, transit_ns: int, now_ns: int) -> None:
        if self._window_ends_ns is None:
            self._window_ends_ns, self._least_ns = now_ns + _TRANSIT_WINDOW_NS, transit_ns
        self._least_ns = min(self._least_ns, transit_ns)
        if now_ns < self._window_ends_ns:
            return
        if self._least_ns > _HIGHEST_TRANSIT_NS:
            self._offset_ns += self._least_ns - _USUAL_TRANSIT_NS
        self._window_ends_ns = None


class FrameRhythm:
    """Takes the jitter of up to 5 ms out of frame times, and knows how long a frame lasts.

    A missing frame, a jump or another rate starts the rhythm anew from what the source says.
    """

    def __init__(self) -> None:
        self._last_ns: float | None = None
        self._raw_ns = self._odd_steps = 0
        self._interval_ns = float(_FIRST_INTERVAL_NS)

    @property
    def interval_ns(self) -> int:
        """How long a frame lasts: 40 ms until two have come, at most 100 ms."""
        return min(int(self._interval_ns), _LONGEST_INTERVAL_NS)

    def smooth(self, captured_ns: int) -> int:
        """The frame's time, at most 5 ms from `captured_ns`."""
        if self._last_ns is None:
            return self._restart(captured_ns)
        error_ns = captured_ns - self._last_ns - self._interval_ns
        if abs(error_ns) > min(_SMOOTHED_NS, self._interval_ns / 4):
            step_ns = captured_ns - self._raw_ns
            self._odd_steps += 1
            if step_ns > 0 and (self._odd_steps > _MISSING_IN_A_ROW or not self._is_multiple(step_ns)):
                self._interval_ns = float(step_ns)
            return self._restart(captured_ns)
        self._odd_steps = 0
        self._last_ns += self._interval_ns + _PHASE_GAIN * error_ns
        self._interval_ns += _INTERVAL_GAIN * error_ns
        self._raw_ns = captured_ns
        return round(self._last_ns)

    def _restart(self, captured_ns: int) -> int:
        self._last_ns, self._raw_ns = float(captured_ns), captured_ns
        return captured_ns

    def _is_multiple(self, step_ns: int) -> bool:
        """Whether frames are merely missing."""
        if step_ns > NS_PER_S:
            return True
        frames = round(step_ns / self._interval_ns)
        return frames >= 2 and abs(step_ns - frames * self._interval_ns) < self._interval_ns / 8
