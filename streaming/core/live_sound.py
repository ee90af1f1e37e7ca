"""Dub sound from a microphone: placed where it was captured, at the media clock's rate."""

import math

import numpy as np

from engine.arrays import F32, F64
from streaming.core.clock import QUANTUM_SAMPLES
from streaming.core.convert import SILENCE
from streaming.core.fades import Seam
from streaming.types import MEDIA_RATE_HZ

_TAPS = 24
_BEFORE, _AFTER = _TAPS // 2 - 1, _TAPS // 2
REACH_SAMPLES = _AFTER  # beyond a quantum, that its last samples need
_CAPACITY_SAMPLES = 2 * MEDIA_RATE_HZ
_JUMP_SAMPLES = 480  # 10 ms: a lost packet, or the source has changed its mind
_LONGEST_GAP_SAMPLES = MEDIA_RATE_HZ
_MOST_REPEATS = 10
_SMOOTHING_SAMPLES = MEDIA_RATE_HZ  # how much sound the placing is averaged over
_GAIN = 0.02  # of the error, corrected within a quantum: a time constant of one second
_MOST_PER_QUANTUM = 0.96  # samples: 1000 ppm, far below what can be heard
_BEGINS_SAMPLES, _SETTLED_SAMPLES = 4.0, 0.05


class LiveSound:
    """One captured stream at 48 kHz.

    Sample `n` of the stream belongs at position `n + shift`. The shift follows the capture times, smoothed
    over a second, by playing up to 1000 ppm faster or slower: that takes out the drift of the microphone's
    crystal. What comes after its time is dropped, so nothing lags behind a stall.
    """

    def __init__(self) -> None:
        self._seam = Seam()
        self._held = np.zeros(0, np.float32)
        self._first = self._unplayed = (
            0  # numbers, in the stream: of the first sample held, of the next to play
        )
        self._shift: float | None = None  # of what plays
        self._wanted = 0.0  # of what comes
        self._repeats = 0
        self._last = 0.0  # sample of the latest quantum
        self._running = self._correcting = False
        self.late_samples = 0
        self.stalls = 0

    @property
    def size(self) -> int:
        """Samples held."""
        return self._held.size

    @property
    def running(self) -> bool:
        """Whether the latest quantum ended in the middle of sound."""
        return self._running

    def push(self, samples: F32, position: float) -> None:
        """Append float32 [N], the first of which was captured at `position`."""
        if self._shift is None:
            self._shift = self._wanted = position - self._end
        error = position - self._end - self._wanted
        if error > _LONGEST_GAP_SAMPLES or self._repeats > _MOST_REPEATS:
            self._restart(position)
        elif error > _JUMP_SAMPLES:
            self._append(np.zeros(round(error), np.float32))
        elif error < -_JUMP_SAMPLES:
            self._repeats += 1
            return
        else:
            self._wanted += min(1.0, samples.size / _SMOOTHING_SAMPLES) * error
        self._repeats = 0
        self._append(samples)

    def close(self, position: int) -> F32:
        """The 20 ms from `position` on: float32 [960], silence where nothing came."""
        if self._shift is None:
            return SILENCE
        cursor = position - self._shift
        leading = 0 if self._running else math.ceil(self._first - cursor)
        if self._end <= cursor or leading >= QUANTUM_SAMPLES:
            return self._idle(cursor)
        change = self._correction()
        block = self._played(cursor, change)
        self._shift += change
        self._forget(cursor + QUANTUM_SAMPLES - change)
        return self._edges(block, max(0, leading), math.ceil(self._end - cursor))

    def clear(self) -> int:
        """Drop what is held; how many samples that were."""
        dropped = max(0, self._end - max(self._first, self._unplayed))
        self._first, self._unplayed = self._end, self._end
        self._held = self._held[:0]
        self._running = False
        self._seam.stop(0.0)
        return dropped

    @property
    def _end(self) -> int:
        return self._first + self._held.size

    def _append(self, samples: F32) -> None:
        end = self._end + samples.size
        self._held = np.concatenate([self._held, samples])[-_CAPACITY_SAMPLES:]
        self._first = end - self._held.size

    def _restart(self, position: float) -> None:
        self.clear()
        self._shift = self._wanted = position - self._end
        self._correcting = False

    def _idle(self, cursor: float) -> F32:
        """Nothing belongs here."""
        if self._running:
            self._stop(self._last)
        self._forget(cursor + QUANTUM_SAMPLES)
        if self._seam.silent:
            return SILENCE
        block = np.zeros(QUANTUM_SAMPLES, np.float32)
        self._seam.fill(block, 0)
        return block

    def _stop(self, last: float) -> None:
        self._running = False
        self.stalls += 1
        self._seam.stop(last)

    def _correction(self) -> float:
        """By how many samples to change the shift within this quantum."""
        error = self._wanted - (self._shift or 0.0)
        self._correcting = abs(error) > (_SETTLED_SAMPLES if self._correcting else _BEGINS_SAMPLES)
        if not self._correcting:
            return 0.0
        return min(max(error * _GAIN, -_MOST_PER_QUANTUM), _MOST_PER_QUANTUM)

    def _played(self, cursor: float, change: float) -> F32:
        """[960] from sample `cursor` on; between samples, by a windowed sinc whose phase moves."""
        whole = math.floor(cursor)
        phase = cursor - whole
        window = self._window(whole - _BEFORE, QUANTUM_SAMPLES + _TAPS - 1)
        if not window.any():
            return SILENCE
        if change == 0.0 and phase == 0.0:
            return window[_BEFORE : _BEFORE + QUANTUM_SAMPLES]
        begins = np.correlate(window, _kernel(phase), "valid")
        if change == 0.0:
            return begins.astype(np.float32)
        ends = np.correlate(window, _kernel(phase - change), "valid")
        return (begins + (ends - begins) * _BLEND).astype(np.float32)

    def _window(self, start: int, count: int) -> F32:
        """[count] from sample `start` on, zeros where nothing is held."""
        low, high = max(start, self._first), min(start + count, self._end)
        if low == start and high == start + count:
            return self._held[low - self._first : high - self._first]
        window = np.zeros(count, np.float32)
        if high > low:
            window[low - start : high - start] = self._held[low - self._first : high - self._first]
        return window

    def _edges(self, block: F32, leading: int, end: int) -> F32:
        """Ramps where sound begins, at `leading`, and where it stops, if `end` is within the block."""
        stops = end < QUANTUM_SAMPLES
        self._running = not stops
        self._last = float(block[-1])
        if block is SILENCE and self._seam.silent:
            if stops:
                self._stop(0.0)
            return SILENCE
        result = np.zeros(QUANTUM_SAMPLES, np.float32)
        end = min(end, QUANTUM_SAMPLES)
        result[leading:end] = self._seam.rise(block[leading:end])
        if leading:
            self._seam.fill(result[:leading], 0)
        if stops:
            self._stop(float(result[end - 1]))
            self._seam.fill(result, end)
        return result

    def _forget(self, cursor: float) -> None:
        """Drop what lies before the sample that plays next, less what its filter reaches."""
        next_up = math.floor(cursor)
        came_late = min(self._end, next_up - QUANTUM_SAMPLES) - max(self._unplayed, 0)
        if came_late > 1:
            self.late_samples += came_late
        self._unplayed = max(self._unplayed, min(next_up, self._end))
        count = min(max(0, next_up - _BEFORE - self._first), self._held.size)
        self._held, self._first = self._held[count:], self._first + count


_BLEND: F64 = np.arange(QUANTUM_SAMPLES) / QUANTUM_SAMPLES


def _kernel(phase: float) -> F64:
    """[24]: a sinc, `phase` samples late, under a Kaiser window."""
    x = np.arange(-_BEFORE, _AFTER + 1) - phase
    inside = np.clip(1 - (x / (_AFTER + 1)) ** 2, 0, None)
    weights = np.sinc(x) * np.i0(7.0 * np.sqrt(inside))
    kernel: F64 = weights / weights.sum()
    return kernel
