import numpy as np
import pytest

from engine.arrays import F32
from engine.expression.audio import MEL_BANDS, SILENCE
from export.audio_augment import disturbed, not_speech, reverberant, warped

FRAMES = 120


def speech(seed: int = 0) -> F32:
    return np.random.default_rng(seed).normal(-5, 2, (FRAMES, MEL_BANDS)).astype(np.float32)


def test_disturbed_is_another_sound_of_the_same_size() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        heard = disturbed(speech(), rng, [speech(1)])
        assert heard.shape == (FRAMES, MEL_BANDS)
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert heard.min() >= np.float32(SILENCE)
        assert np.abs(heard - speech()).mean() > 0.1


def test_equal_seeds_disturb_equally() -> None:
    one, other = (disturbed(speech(), np.random.default_rng(3), [speech(1)]) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_disturbing_needs_no_other_voice() -> None:
    rng = np.random.default_rng(0)
    assert all(np.isfinite(disturbed(speech(), rng, [])).all() for _ in range(20))


def test_warping_moves_what_is_in_a_band() -> None:
    mels = np.full((1, MEL_BANDS), SILENCE)
    mels[0, 40] = 0
    np.testing.assert_array_equal(warped(mels, 1.0), mels)
    assert warped(mels, 0.8).argmax() == 50
    assert warped(mels, 1.25).argmax() == 32


def test_a_room_adds_a_tail_that_falls_by_60_db() -> None:
    mels = np.full((150, MEL_BANDS), -60.0)
    mels[10] = 0
    heard = reverberant(mels, decay_s=0.5, wet=0.5)
    np.testing.assert_allclose(heard[:10], -60, atol=0.5)
    assert heard[10, 0] == pytest.approx(0)
    assert heard[11, 0] - heard[61, 0] == pytest.approx(np.log(1e6), rel=0.02)
    assert (np.diff(heard[11:60, 0]) < 0).all()


def test_what_is_no_speech_is_of_many_kinds() -> None:
    rng = np.random.default_rng(0)
    made = [not_speech(FRAMES, rng, [speech(1), speech(2)]) for _ in range(40)]
    assert {one.shape for one in made} == {(FRAMES, MEL_BANDS)}
    assert all(np.isfinite(one).all() and one.min() >= np.float32(SILENCE) for one in made)
    loudness = [float(one.mean()) for one in made]
    assert min(loudness) < -13
    assert max(loudness) > -7
