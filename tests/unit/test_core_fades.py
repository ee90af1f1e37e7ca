import numpy as np

from streaming.core.fades import CUT_FADE_SAMPLES, Seam, ramp_down


def test_a_ramp_goes_from_nearly_one_to_nothing() -> None:
    ramp = ramp_down(480)
    assert ramp.dtype == np.float32
    assert 0.999 < ramp[0] < 1
    assert ramp[-1] == 0
    assert np.diff(ramp).max() < 0


def test_what_stops_dies_away_across_blocks() -> None:
    seam = Seam()
    seam.stop(0.8)
    first, second = np.zeros(100, np.float32), np.zeros(400, np.float32)
    assert not seam.silent
    seam.fill(first, 20)
    seam.fill(second, 0)
    assert seam.silent
    joined = np.concatenate([[np.float32(0.8)], first[20:], second])
    assert np.abs(np.diff(joined)).max() < 0.8 * np.pi / 2 / CUT_FADE_SAMPLES * 1.1
    assert not joined[1 + CUT_FADE_SAMPLES :].any()
    assert not first[:20].any()


def test_what_goes_on_rises_and_the_input_stays() -> None:
    seam, ones = Seam(), np.ones(200, np.float32)
    assert seam.rise(ones) is ones
    seam.stop(0.0)
    risen = np.concatenate([seam.rise(ones), seam.rise(ones)])
    assert ones.all()
    assert risen[0] == 0
    assert (np.diff(risen) >= 0).all()
    assert risen[CUT_FADE_SAMPLES:].min() == 1
    assert seam.rise(ones) is ones


def test_a_new_utterance_does_not_rise() -> None:
    seam, ones = Seam(), np.ones(200, np.float32)
    seam.stop(0.5, rises=False)
    assert seam.rise(ones) is ones


def test_stopping_in_silence_leaves_silence() -> None:
    seam = Seam()
    seam.stop(0.0)
    assert seam.silent
