"""A streaming resampler between the sampling rates of sound cards, telephones and files."""

from fractions import Fraction

import numpy as np

from engine.arrays import F32, F64, Array, check_array
from engine.steppable import State, StepSpec

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 8_000, 48_000
PASSBAND = 0.925  # of the lower Nyquist frequency; from there to Nyquist the filter falls
STOPBAND_DB = 80.0
_LARGEST_TERM = 1000  # of the ratio; 44.1 to 16 kHz is 160/441
_OFFLINE_BLOCKS = 512  # keeps the windows of a long recording within some 5 MB


class Resampler:
    """Resampling by a linear-phase filter, a Steppable: float32 [B, T] -> float32 [B, T * ratio].

    With a ratio of L/M, the output is that of inserting L - 1 zeros, filtering, and keeping each M-th sample,
    written as one matrix for a block. The passband, up to 0.925 of the lower Nyquist frequency, is flat to
    0.01 dB; what would alias or image falls by 80 dB. The delay is constant: 4.2 ms from 48 to 16 kHz.

    A block has 10 ms, or the least number of samples above that which gives a whole number of them.
    """

    def __init__(self, source_hz: int, target_hz: int) -> None:
        for rate_hz in (source_hz, target_hz):
            if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
                raise ValueError(f"{rate_hz = } must be {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}")
        ratio = Fraction(target_hz, source_hz)
        if max(ratio.numerator, ratio.denominator) > _LARGEST_TERM:
            raise ValueError(f"{source_hz} Hz and {target_hz} Hz have no small common ratio ({ratio})")
        kernel = low_pass(source_hz, target_hz)
        self._delay = (kernel.size - 1) // (2 * ratio.numerator)
        ten_ms = -(-source_hz // (100 * ratio.denominator))
        block_size = ratio.denominator * ten_ms
        self._spec = StepSpec(block_size, ratio, self._delay, block_size + 2 * self._delay)
        self._matrix = _block_matrix(kernel, self._delay, self._spec)

    @property
    def spec(self) -> StepSpec:
        """Blocks of about 10 ms; latency is the filter's delay."""
        return self._spec

    def initial_state(self, batch: int) -> State:
        """Silence before the first sample."""
        return {"history": np.zeros((batch, 2 * self._delay), np.float32)}

    def step(self, x: Array, state: State) -> tuple[F32, State]:
        """Resample the blocks in `x`.

        Args:
            x: float32 [B, n * block_size].
            state: `history` float32 [B, 2 * latency], the samples before `x`.

        Returns:
            float32 [B, n * output_block] and the next state.

        Raises:
            TypeError: `x` is not float32.
            ValueError: not whole blocks, or another batch than the state's.
        """
        check_array("x", x, (None, None), np.float32)
        self._spec.blocks_in(x.shape[1])
        check_array("state['history']", state["history"], (x.shape[0], 2 * self._delay), np.float32)
        samples = np.concatenate([state["history"], x], axis=1)
        return self._filter(samples), {"history": samples[:, x.shape[1] :].copy()}

    def offline(self, x: Array) -> F32:
        """Resample a whole recording: float32 [B, n * block_size] -> float32 [B, n * output_block]."""
        check_array("x", x, (None, None), np.float32)
        blocks, size, out = self._spec.blocks_in(x.shape[1]), self._spec.block_size, self._spec.output_block
        samples = np.pad(x, ((0, 0), (2 * self._delay, 0)))
        y = np.empty((x.shape[0], blocks * out), np.float32)
        for first in range(0, blocks, _OFFLINE_BLOCKS):
            last = min(first + _OFFLINE_BLOCKS, blocks)
            y[:, first * out : last * out] = self._filter(
                samples[:, first * size : last * size + 2 * self._delay]
            )
        return y

    def _filter(self, samples: F32) -> F32:
        """[B, 2 * delay + n * block_size] -> [B, n * output_block], in double precision (see `LogMel`)."""
        size = self._spec.block_size
        windows = np.lib.stride_tricks.sliding_window_view(samples, size + 2 * self._delay, axis=1)[:, ::size]
        y = windows.astype(np.float64) @ self._matrix
        return y.astype(np.float32).reshape(samples.shape[0], -1)


def low_pass(source_hz: int, target_hz: int) -> F64:
    """The filter between the two rates, at their least common multiple: odd, symmetric, gain L.

    Its half is a whole number of samples of the source, so that the delay is one too. Length and window are
    Kaiser's (Nonrecursive digital filter design using the I0-sinh window function, 1974).
    """
    if source_hz == target_hz:
        return np.ones(1)
    up = Fraction(target_hz, source_hz).numerator
    nyquist_hz, rate_hz = min(source_hz, target_hz) / 2, source_hz * up
    transition_rad = 2 * np.pi * nyquist_hz * (1 - PASSBAND) / rate_hz
    half = int(np.ceil((STOPBAND_DB - 7.95) / (2.285 * transition_rad) / 2 / up)) * up
    cutoff = nyquist_hz * (1 + PASSBAND) / rate_hz  # the transition's middle, in half cycles a sample
    ideal = cutoff * np.sinc(cutoff * np.arange(-half, half + 1))
    windowed = ideal * np.kaiser(2 * half + 1, 0.1102 * (STOPBAND_DB - 8.7))
    kernel: F64 = windowed * (up / windowed.sum())
    return kernel


def _block_matrix(kernel: F64, delay: int, spec: StepSpec) -> F64:
    """[2 * delay + block_size, output_block]: what each sample in reach of a block gives to each output."""
    up, down = spec.output_ratio.numerator, spec.output_ratio.denominator
    source = np.arange(-2 * delay, spec.block_size)[:, None] * up
    at = np.arange(spec.output_block)[None] * down - source
    inside = (at >= 0) & (at < kernel.size)
    return np.where(inside, kernel[np.where(inside, at, 0)], 0.0)
