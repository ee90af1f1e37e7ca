"""Sound of any rate as 48 kHz, and 48 kHz as what the worker and the gate get."""

from functools import lru_cache

import numpy as np

from engine.arrays import F32
from engine.audio.blocks import Reblocker, float_from_int16
from engine.audio.resample import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, Resampler
from engine.errors import ProtocolError
from engine.timing import AUDIO_RATE_HZ
from streaming.core.clock import QUANTUM_SAMPLES
from streaming.types import MEDIA_RATE_HZ, PCM

WORKER_SAMPLES = QUANTUM_SAMPLES * AUDIO_RATE_HZ // MEDIA_RATE_HZ
_LARGEST_TERM_HZ = 48  # rates that are multiples of it have a ratio the resampler can use


def _frozen(array: F32) -> F32:
    array.flags.writeable = False
    return array


SILENCE = _frozen(np.zeros(QUANTUM_SAMPLES, np.float32))
WORKER_SILENCE = _frozen(np.zeros(WORKER_SAMPLES, np.float32))


@lru_cache(maxsize=16)
def _resampler(source_hz: int, target_hz: int) -> Resampler:
    return Resampler(source_hz, target_hz)


@lru_cache(maxsize=64)
def _to_media_rate(rate_hz: int) -> Resampler:
    """From the nearest rate that has a small ratio to 48 kHz; at most 0.3 % off, for odd rates only."""
    try:
        return _resampler(rate_hz, MEDIA_RATE_HZ)
    except ValueError:
        return _resampler(round(rate_hz / _LARGEST_TERM_HZ) * _LARGEST_TERM_HZ, MEDIA_RATE_HZ)


class ToMediaRate:
    """One stream of sound, of any rate and in any pieces, as 48 kHz, sample 0 at sample 0."""

    def __init__(self) -> None:
        self._rate_hz = 0
        self._resampler: Resampler | None = None
        self._begin(MEDIA_RATE_HZ)

    @property
    def behind_samples(self) -> float:
        """How much, at 48 kHz, has come and was not given yet."""
        if self._resampler is None:
            return 0.0
        return float(self._came * self._resampler.spec.output_ratio - self._gave)

    def push(self, samples: PCM, rate_hz: int) -> F32:
        """The next samples, int16 [T] -> what is ready of them, float32 [N] at 48 kHz.

        Raises:
            ProtocolError: a rate outside 8 to 48 kHz.
        """
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise ProtocolError(f"sound has {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz, not {rate_hz}")
        if rate_hz == self._rate_hz:
            return self._convert(float_from_int16(samples))
        rest = self.flush()
        self._begin(rate_hz)
        return np.concatenate([rest, self._convert(float_from_int16(samples))])

    def flush(self) -> F32:
        """What is still inside, at the end of an utterance: float32 [N] at 48 kHz."""
        if self._resampler is None or not self._came:
            return np.zeros(0, np.float32)
        spec = self._resampler.spec
        wanted = round(self._came * spec.output_ratio) - self._gave
        rest = self._convert(np.zeros(spec.latency + 2 * spec.block_size, np.float32))[:wanted]
        self._begin(self._rate_hz)
        return rest

    def _begin(self, rate_hz: int) -> None:
        self._rate_hz, self._came, self._gave = rate_hz, 0, 0
        if rate_hz == MEDIA_RATE_HZ:
            self._resampler = None
            return
        self._resampler = _to_media_rate(rate_hz)
        spec = self._resampler.spec
        self._reblocker = Reblocker(spec.block_size)
        self._pending = self._reblocker.initial_state()
        self._state = self._resampler.initial_state(1)
        self._delay = round(spec.latency * spec.output_ratio)

    def _convert(self, samples: F32) -> F32:
        if self._resampler is None:
            return samples
        self._came += samples.size
        blocks, self._pending = self._reblocker.push(samples, self._pending)
        if not blocks.samples.size:
            return blocks.samples
        y, self._state = self._resampler.step(blocks.samples[None], self._state)
        ready = y[0, self._delay :] if self._delay else y[0]
        self._delay = max(0, self._delay - y.shape[1])
        self._gave += ready.size
        return ready


class TwoRates:
    """Each 20 ms as the gate sends them and as the worker hears them, at the same media time.

    The filter to 16 kHz delays by 4.2 ms; the sound to send is delayed by as much.
    """

    DELAY_SAMPLES = _resampler(MEDIA_RATE_HZ, AUDIO_RATE_HZ).spec.latency

    def __init__(self) -> None:
        self._resampler = _resampler(MEDIA_RATE_HZ, AUDIO_RATE_HZ)
        self._state = self._resampler.initial_state(1)
        self._held = np.zeros(self.DELAY_SAMPLES, np.float32)
        self._quiet = True

    def push(self, block: F32) -> tuple[F32, F32]:
        """Float32 [960] -> float32 [960] at 48 kHz and float32 [320] at 16 kHz, not to be written."""
        if block is SILENCE and self._quiet:
            return SILENCE, WORKER_SILENCE
        y, self._state = self._resampler.step(block[None], self._state)
        joined = np.concatenate([self._held, block])
        self._held = joined[QUANTUM_SAMPLES:]
        self._quiet = block is SILENCE
        return joined[:QUANTUM_SAMPLES], y[0]

    def forget(self) -> None:
        """Leave out of what is sent the 4.2 ms that are held."""
        self._held = np.zeros(self.DELAY_SAMPLES, np.float32)
