"""Causal log-mel features: the front end of the audio-to-expression model."""

from fractions import Fraction

import numpy as np

from engine.arrays import F32, F64, Array, check_array
from engine.steppable import State, StepSpec
from engine.timing import AUDIO_RATE_HZ, MEL_RATE_HZ

MEL_BANDS = 80
HOP_SAMPLES = AUDIO_RATE_HZ // MEL_RATE_HZ
WINDOW_SAMPLES = 400  # 25 ms
HISTORY_SAMPLES = WINDOW_SAMPLES - HOP_SAMPLES
FFT_SIZE = 512
LOWEST_HZ, HIGHEST_HZ = 50.0, 7600.0
POWER_FLOOR = 1e-6
_POINTS_PER_BIN = 32  # where the triangles are sampled to average them over a bin
_OFFLINE_BLOCKS = 2048  # keeps the windows of a long recording within some 10 MB


class LogMel:
    """Log-mel spectrogram, a Steppable: float32 [B, T] at 16 kHz -> float32 [B, T / 160, 80] at 100 Hz.

    Frame k covers samples (k + 1) * 160 - 400 up to (k + 1) * 160: a periodic Hann window of 25 ms that ends
    with the block; before the start lie zeros. Value: natural log(power in the mel band + 1e-6), where power
    is |FFT-512 of the windowed samples in -1..1|^2 weighted by triangles of height 1. Silence is -13.8, a
    full-scale tone about 9. No normalisation.
    """

    def __init__(self) -> None:
        self._spec = StepSpec(HOP_SAMPLES, Fraction(1, HOP_SAMPLES), WINDOW_SAMPLES // 2, WINDOW_SAMPLES)
        self._window: F64 = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)
        self._filters = mel_filters()

    @property
    def spec(self) -> StepSpec:
        """Blocks of 160 samples; the window's centre lies 200 samples behind the block's end."""
        return self._spec

    def initial_state(self, batch: int) -> State:
        """Silence before the first sample."""
        return {"history": np.zeros((batch, HISTORY_SAMPLES), np.float32)}

    def step(self, x: Array, state: State) -> tuple[F32, State]:
        """Features of the blocks in `x`.

        Args:
            x: float32 [B, n * 160], samples in -1..1.
            state: `history` float32 [B, 240], the samples before `x`.

        Returns:
            float32 [B, n, 80] and the next state.

        Raises:
            TypeError: `x` is not float32.
            ValueError: not whole blocks, or another batch than the state's.
        """
        check_array("x", x, (None, None), np.float32)
        self._spec.blocks_in(x.shape[1])
        check_array("state['history']", state["history"], (x.shape[0], HISTORY_SAMPLES), np.float32)
        samples = np.concatenate([state["history"], x], axis=1)
        return self._features(samples), {"history": samples[:, x.shape[1] :].copy()}

    def offline(self, x: Array) -> F32:
        """Features of a whole recording: float32 [B, n * 160] -> float32 [B, n, 80]."""
        check_array("x", x, (None, None), np.float32)
        blocks = self._spec.blocks_in(x.shape[1])
        samples = np.pad(x, ((0, 0), (HISTORY_SAMPLES, 0)))
        y = np.empty((x.shape[0], blocks, MEL_BANDS), np.float32)
        for first in range(0, blocks, _OFFLINE_BLOCKS):
            last = min(first + _OFFLINE_BLOCKS, blocks)
            y[:, first:last] = self._features(
                samples[:, first * HOP_SAMPLES : last * HOP_SAMPLES + HISTORY_SAMPLES]
            )
        return y

    def _features(self, samples: F32) -> F32:
        """[B, 240 + n * 160] -> [B, n, 80].

        In double precision, so that rounding to float32 hides in what order a matrix product was summed and
        any cut into steps gives the same features.
        """
        windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES, axis=1)[:, ::HOP_SAMPLES]
        spectrum = np.fft.rfft(windows * self._window, FFT_SIZE)
        power = spectrum.real**2 + spectrum.imag**2
        features: F32 = np.log(power @ self._filters + POWER_FLOOR).astype(np.float32)
        return features


def mel_filters() -> F64:
    """Triangles on the mel scale, float64 [257, 80], weights in 0..1.

    Each weight is the triangle's mean over the width of the FFT bin: the lowest bands are narrower than a
    bin, and sampled at its centre some would be empty.
    """
    edges_hz = _hz_from_mel(np.linspace(_mel_from_hz(LOWEST_HZ), _mel_from_hz(HIGHEST_HZ), MEL_BANDS + 2))
    low, centre, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    bins = np.arange(FFT_SIZE // 2 + 1)[:, None]
    points_hz = (bins + (np.arange(_POINTS_PER_BIN) + 0.5) / _POINTS_PER_BIN - 0.5) * AUDIO_RATE_HZ / FFT_SIZE
    at = points_hz[:, :, None]
    triangles = np.minimum((at - low) / (centre - low), (high - at) / (high - centre))
    weights: F64 = np.maximum(triangles, 0.0).mean(axis=1)
    return weights


def _mel_from_hz(hz: float) -> float:
    """O'Shaughnessy's mel scale, as HTK has it."""
    return float(2595.0 * np.log10(1.0 + hz / 700.0))


def _hz_from_mel(mel: F64) -> F64:
    hz: F64 = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return hz
