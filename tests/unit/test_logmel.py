from time import perf_counter

import numpy as np
import pytest

from engine.arrays import F32
from engine.audio.logmel import MEL_BANDS, LogMel, mel_filters

FRAME_HZ = 16_000 / 512


def tone(hz: float, samples: int, amplitude: float = 0.5) -> F32:
    wave: F32 = (amplitude * np.sin(2 * np.pi * hz * np.arange(samples) / 16_000)).astype(np.float32)[None]
    return wave


def slow_frame(samples: F32, k: int) -> F32:
    """One frame by the definition: a window that ends with block k, a DFT written out, the triangles."""
    end = (k + 1) * 160
    window = np.array([samples[i] if i >= 0 else 0.0 for i in range(end - 400, end)], np.float64)
    window *= np.sin(np.pi * np.arange(400) / 400) ** 2
    at = np.arange(400)[None] * np.arange(257)[:, None]
    power = np.abs((window * np.exp(-2j * np.pi * at / 512)).sum(1)) ** 2
    frame: F32 = np.log(power @ mel_filters() + 1e-6).astype(np.float32)
    return frame


def test_frames_follow_the_definition() -> None:
    x = (np.random.default_rng(0).standard_normal((1, 1600)) * 0.1).astype(np.float32)
    y = LogMel().offline(x)
    assert y.shape == (1, 10, MEL_BANDS)
    assert y.dtype == np.float32
    for k in range(10):
        np.testing.assert_allclose(y[0, k], slow_frame(x[0], k), atol=2e-6)


def test_silence_is_the_floor() -> None:
    y = LogMel().offline(np.zeros((1, 800), np.float32))
    assert np.all(y == np.float32(np.log(1e-6)))


@pytest.mark.parametrize("hz", [120.0, 440.0, 1000.0, 3000.0, 7000.0])
def test_a_tone_lands_in_its_band(hz: float) -> None:
    frame = LogMel().offline(tone(hz, 3200))[0, -1]
    centres_hz = (mel_filters() * (np.arange(257) * FRAME_HZ)[:, None]).sum(0) / mel_filters().sum(0)
    nearest = int(np.argmin(np.abs(centres_hz - hz)))
    assert abs(int(np.argmax(frame)) - nearest) <= 1


def test_twice_the_amplitude_is_four_times_the_power() -> None:
    quiet, loud = (LogMel().offline(tone(1000.0, 3200, a))[0, -1] for a in (0.25, 0.5))
    band = int(np.argmax(loud))
    assert loud[band] - quiet[band] == pytest.approx(np.log(4), abs=1e-4)
    assert 6 < loud[band] < 10


def test_no_band_is_empty_and_none_hears_outside_its_range() -> None:
    filters = mel_filters()
    assert filters.shape == (257, MEL_BANDS)
    assert np.all(filters.sum(0) > 0.2)
    assert np.all((filters >= 0) & (filters <= 1))
    assert np.all(filters[: int(50 / FRAME_HZ)] == 0)
    assert np.all(filters[int(7600 / FRAME_HZ) + 2 :] == 0)


def test_any_cut_gives_the_same_bits() -> None:
    x = (np.random.default_rng(1).standard_normal((1, 160 * 40)) * 0.1).astype(np.float32)
    model = LogMel()
    state = model.initial_state(1)
    parts = []
    for start in range(0, x.shape[1], 640):
        y, state = model.step(x[:, start : start + 640], state)
        parts.append(y)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), model.offline(x))


def test_a_long_recording_has_no_seams() -> None:
    x = (np.random.default_rng(2).standard_normal((1, 160 * 4100)) * 0.1).astype(np.float32)
    y = LogMel().offline(x)
    tail = LogMel().offline(x[:, 160 * 2000 :])
    np.testing.assert_allclose(y[:, 2003:], tail[:, 3:], atol=1e-6)


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.zeros((1, 161), np.float32), ValueError),
        (np.zeros(160, np.float32), ValueError),
        (np.zeros((1, 160), np.float64), TypeError),
        (np.zeros((2, 160), np.float32), ValueError),
    ],
)
def test_wrong_input_is_refused(x: F32, error: type[Exception]) -> None:
    model = LogMel()
    with pytest.raises(error):
        model.step(x, model.initial_state(1))


def test_a_step_of_40_ms_takes_a_fraction_of_a_millisecond() -> None:
    model, x = LogMel(), np.zeros((1, 640), np.float32)
    state = model.initial_state(1)
    times_s = []
    for _ in range(50):
        begun_s = perf_counter()
        _, state = model.step(x, state)
        times_s.append(perf_counter() - begun_s)
    assert min(times_s) < 1e-3  # 0.04 ms where nothing else runs
