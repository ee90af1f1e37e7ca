from fractions import Fraction

import numpy as np
import pytest

from engine.arrays import F32, F64
from engine.audio.resample import PASSBAND, Resampler, low_pass

PAIRS = [
    (48_000, 16_000),
    (44_100, 16_000),
    (32_000, 16_000),
    (24_000, 16_000),
    (22_050, 16_000),
    (12_000, 16_000),
    (11_025, 16_000),
    (8_000, 16_000),
    (16_000, 48_000),
    (16_000, 44_100),
    (48_000, 44_100),
]


def tone(hz: float, rate_hz: int, samples: int) -> F32:
    wave: F32 = np.sin(2 * np.pi * hz * np.arange(samples) / rate_hz).astype(np.float32)[None]
    return wave


def settled(model: Resampler, hz: float, source_hz: int) -> F64:
    """The output for a tone of amplitude 1, without the filter's start."""
    size = model.spec.block_size
    samples = size * max(2, round(0.25 * source_hz / size))
    y = model.offline(tone(hz, source_hz, samples))[0]
    return np.asarray(y[int(2 * model.spec.latency * model.spec.output_ratio) + 1 :], np.float64)


def level_db(y: F64) -> float:
    return float(20 * np.log10(np.sqrt(2 * np.mean(y**2)) + 1e-12))


def amplitude(y: F64, hz: float, rate_hz: int) -> float:
    """Amplitude of the tone at `hz`, by least squares."""
    phase = 2 * np.pi * hz * np.arange(y.size) / rate_hz
    basis = np.stack([np.cos(phase), np.sin(phase)], axis=1)
    return float(np.hypot(*np.linalg.lstsq(basis, y, rcond=None)[0]))


@pytest.mark.parametrize(("source_hz", "target_hz"), PAIRS)
def test_is_zero_stuffing_filtering_and_picking(source_hz: int, target_hz: int) -> None:
    model = Resampler(source_hz, target_hz)
    ratio = Fraction(target_hz, source_hz)
    x = np.random.default_rng(0).standard_normal((1, 4 * model.spec.block_size)).astype(np.float32)
    y = model.offline(x)
    stuffed = np.zeros(x.size * ratio.numerator)
    stuffed[:: ratio.numerator] = x[0]
    kernel = low_pass(source_hz, target_hz)
    size = 1 << (stuffed.size + kernel.size).bit_length()
    slow = np.fft.irfft(np.fft.rfft(stuffed, size) * np.fft.rfft(kernel, size), size)[:: ratio.denominator]
    np.testing.assert_allclose(y[0], slow[: y.shape[1]], atol=1e-5)


@pytest.mark.parametrize(("source_hz", "target_hz"), PAIRS)
def test_the_passband_is_flat(source_hz: int, target_hz: int) -> None:
    model = Resampler(source_hz, target_hz)
    edge_hz = PASSBAND * min(source_hz, target_hz) / 2
    levels = [
        20 * np.log10(amplitude(settled(model, hz, source_hz), hz, target_hz))
        for hz in np.linspace(60.0, edge_hz, 12)
    ]
    assert np.max(np.abs(levels)) < 0.01


@pytest.mark.parametrize(("source_hz", "target_hz"), [p for p in PAIRS if p[0] > p[1]])
def test_what_would_alias_is_gone(source_hz: int, target_hz: int) -> None:
    model = Resampler(source_hz, target_hz)
    tones_hz = np.linspace(target_hz / 2, source_hz / 2 - 1, 25)
    assert max(level_db(settled(model, hz, source_hz)) for hz in tones_hz) < -75


@pytest.mark.parametrize(("source_hz", "target_hz"), [p for p in PAIRS if p[0] < p[1]])
def test_images_are_gone(source_hz: int, target_hz: int) -> None:
    model = Resampler(source_hz, target_hz)
    for hz in np.linspace(100.0, PASSBAND * source_hz / 2, 9):
        y = settled(model, hz, source_hz)
        phase = 2 * np.pi * hz * np.arange(y.size) / target_hz
        basis = np.stack([np.cos(phase), np.sin(phase)], axis=1)
        rest = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
        assert level_db(rest) < -75


@pytest.mark.parametrize(("source_hz", "target_hz"), PAIRS)
def test_the_declared_latency_is_the_delay(source_hz: int, target_hz: int) -> None:
    model = Resampler(source_hz, target_hz)
    at = 2 * model.spec.block_size
    x = np.zeros((1, 5 * model.spec.block_size), np.float32)
    x[0, at] = 1
    y = model.offline(x)[0].astype(np.float64)
    centre = float(np.sum(np.arange(y.size) * y) / np.sum(y))
    assert centre == pytest.approx((at + model.spec.latency) * model.spec.output_ratio, abs=0.02)
    assert model.spec.latency / source_hz < 0.009


def test_equal_rates_change_nothing() -> None:
    model = Resampler(16_000, 16_000)
    x = np.random.default_rng(0).standard_normal((2, 480)).astype(np.float32)
    assert model.spec.latency == 0
    np.testing.assert_array_equal(model.offline(x), x)


def test_a_constant_stays_the_same_constant() -> None:
    model = Resampler(44_100, 16_000)
    y = model.offline(np.full((1, 441 * 20), 0.5, np.float32))
    np.testing.assert_allclose(y[0, 400:], 0.5, atol=1e-4)


def test_a_long_recording_has_no_seams() -> None:
    model = Resampler(8_000, 16_000)
    x = np.random.default_rng(0).standard_normal((1, 80 * 1030)).astype(np.float32)
    tail = model.offline(x[:, 80 * 500 :])
    np.testing.assert_array_equal(model.offline(x)[:, 160 * 502 :], tail[:, 160 * 2 :])


def test_blocks_are_ten_milliseconds_where_that_is_whole() -> None:
    sizes = {
        rate_hz: Resampler(rate_hz, 16_000).spec.block_size for rate_hz in (8_000, 22_050, 44_100, 48_000)
    }
    assert sizes == {8_000: 80, 22_050: 441, 44_100: 441, 48_000: 480}


@pytest.mark.parametrize(
    ("source_hz", "target_hz", "said"),
    [
        (7_999, 16_000, "rate_hz = 7999"),
        (48_000, 96_000, "rate_hz = 96000"),
        (44_101, 16_000, "no small common ratio"),
    ],
)
def test_rates_out_of_reach_are_refused(source_hz: int, target_hz: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Resampler(source_hz, target_hz)


def test_wrong_input_is_refused() -> None:
    model = Resampler(48_000, 16_000)
    with pytest.raises(ValueError, match="not a whole number of blocks of 480"):
        model.step(np.zeros((1, 479), np.float32), model.initial_state(1))
    with pytest.raises(TypeError, match="float32"):
        model.step(np.zeros((1, 480)), model.initial_state(1))
    with pytest.raises(ValueError, match="history"):
        model.step(np.zeros((2, 480), np.float32), model.initial_state(1))
