import numpy as np
import pytest

from engine.arrays import F32
from engine.audio.blocks import float_from_int16
from engine.audio.resample import Resampler
from engine.errors import ProtocolError
from streaming.core.convert import SILENCE, WORKER_SILENCE, ToMediaRate, TwoRates
from tests.support.live_sim import cut, tone


def _through(rate_hz: int, piece_samples: int, length: int) -> F32:
    convert = ToMediaRate()
    parts = [convert.push(piece, rate_hz) for piece in cut(tone(length, rate_hz), piece_samples)]
    return np.concatenate([*parts, convert.flush()])


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
def test_any_rate_becomes_48_khz_sample_0_at_sample_0(rate_hz: int) -> None:
    out = _through(rate_hz, 313, rate_hz)
    assert out.size == 48_000
    wanted = tone(48_000).astype(np.float32) / 32_768
    assert np.abs(out - wanted)[480:-480].max() < 0.008


@pytest.mark.parametrize("piece_samples", [1, 37, 1000, 24_000])
def test_pieces_make_no_difference(piece_samples: int) -> None:
    np.testing.assert_allclose(_through(24_000, piece_samples, 2400), _through(24_000, 480, 2400), atol=1e-6)


@pytest.mark.parametrize("rate_hz", [8_001, 12_345, 47_999])
def test_odd_rates_are_close_enough(rate_hz: int) -> None:
    out = _through(rate_hz, 500, rate_hz // 4)
    assert out.size == pytest.approx(12_000, rel=0.004)


def test_a_rate_that_changes_loses_nothing() -> None:
    convert = ToMediaRate()
    parts = [
        convert.push(tone(1600, 16_000), 16_000),
        convert.push(tone(4410, 44_100), 44_100),
        convert.flush(),
    ]
    assert sum(part.size for part in parts) == 2 * 4800


def test_it_says_how_far_behind_it_is() -> None:
    convert = ToMediaRate()
    came = 0
    for piece in cut(tone(1000, 8_000), 77):
        assert convert.behind_samples >= 0
        came += convert.push(piece, 8_000).size
    assert convert.behind_samples == 6000 - came
    convert.flush()
    assert convert.behind_samples == 0
    assert convert.flush().size == 0


@pytest.mark.parametrize("rate_hz", [0, -1, 7_999, 48_001, 10**9])
def test_rates_beyond_the_limits_are_refused(rate_hz: int) -> None:
    with pytest.raises(ProtocolError, match="8000 to 48000 Hz"):
        ToMediaRate().push(tone(10), rate_hz)


def test_both_rates_are_at_the_same_time() -> None:
    """What is sent, brought to 16 kHz without a delay, is what the worker hears."""
    rates, sound = TwoRates(), float_from_int16(tone(9600))
    pairs = [rates.push(sound[start : start + 960]) for start in range(0, 9600, 960)]
    sent, heard = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    resampler = Resampler(48_000, 16_000)
    later, _ = resampler.step(np.pad(sent, (0, 960))[None], resampler.initial_state(1))
    delay = TwoRates.DELAY_SAMPLES // 3
    np.testing.assert_allclose(later[0, delay : delay + heard.size - 200], heard[:-200], atol=1e-6)
    np.testing.assert_array_equal(sent[TwoRates.DELAY_SAMPLES :], sound[: -TwoRates.DELAY_SAMPLES])


def test_silence_costs_nothing_and_ends_sound_completely() -> None:
    rates = TwoRates()
    assert rates.push(SILENCE)[0] is SILENCE
    rates.push(np.ones(960, np.float32))
    sent, heard = rates.push(SILENCE)
    assert sent[:201].all()
    assert not sent[201:].any()
    assert np.abs(heard).max() > 0.5
    assert rates.push(SILENCE) == (SILENCE, WORKER_SILENCE)


def test_what_is_held_can_be_left_out() -> None:
    rates = TwoRates()
    rates.push(np.ones(960, np.float32))
    rates.forget()
    sent, heard = rates.push(SILENCE)
    assert not sent.any()
    assert heard.any()
