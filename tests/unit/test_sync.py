"""The audio and video correlation on signals whose answer is known."""

import numpy as np
import pytest

from engine.arrays import F32, F64
from export import sync

SECONDS = 8
FRAME_S = np.arange(SECONDS * 25) / 25


def babble(seed: int) -> tuple[F64, F32]:
    """A mouth's opening at 25 fps, and sound whose vowels are as loud as the mouth is open."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(SECONDS * 16000) / 16000
    opening = np.interp(time_s, np.arange(0, SECONDS + 1, 0.125), rng.uniform(0, 1, 8 * (SECONDS + 1)))
    spectrum = np.fft.rfft(rng.normal(0, 1, len(time_s)))
    hz = np.fft.rfftfreq(len(time_s), 1 / 16000)
    vowel = np.fft.irfft(spectrum * ((hz > 700) & (hz < 2000)))
    audio = 0.3 * vowel * 10 ** (1.5 * (opening - 1)) + 0.001 * rng.normal(0, 1, len(time_s))
    return np.interp(FRAME_S, time_s, opening), audio.astype(np.float32)


def delayed(audio: F32, delay_ms: float) -> F32:
    return np.roll(audio, round(delay_ms * 16))


def face(opening_px: float, roll: float = 0.0, pitch: float = 0.0, scale: float = 1.0) -> F32:
    points = np.zeros((1, 478, 3))
    points[0, [10, 152, 13, 14], 1] = (-100, 100, 60 - opening_px / 2, 60 + opening_px / 2)
    c, s = np.cos(roll), np.sin(roll)
    cp, sp = np.cos(pitch), np.sin(pitch)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turned: F32 = (scale * points @ turn.T + [320, 180, 0]).astype(np.float32)
    return turned


@pytest.mark.parametrize("opening_px", [0.0, 20.0])
def test_aperture_does_not_change_with_the_heads_pose(opening_px: float) -> None:
    for pose in ({}, {"roll": 0.5}, {"pitch": -0.6}, {"roll": -1.0, "pitch": 0.3, "scale": 2.5}):
        got = sync.aperture(face(opening_px, **pose))
        np.testing.assert_allclose(got, opening_px / 200, atol=1e-6)


def test_aperture_of_a_lost_face_is_unknown() -> None:
    track = np.concatenate(
        (face(10), np.full((1, 478, 3), np.nan, np.float32), np.zeros((1, 478, 3), np.float32))
    )
    np.testing.assert_allclose(sync.aperture(track), [0.05, np.nan, np.nan], atol=1e-6)


@pytest.mark.parametrize("late_ms", [-180, -40, 0, 70, 200])
def test_offset_is_how_late_the_picture_is(late_ms: int) -> None:
    opening, audio = babble(1)
    result = sync.audio_sync(opening, FRAME_S, delayed(audio, sync.REAL_LEAD_MS - late_ms))
    assert result.correlation is not None
    assert result.correlation > 0.8
    assert result.offset_ms == pytest.approx(late_ms, abs=12)
    assert 2 < result.active_s <= SECONDS + 0.01


def test_offset_beyond_the_range_is_unknown() -> None:
    opening, audio = babble(1)
    assert sync.audio_sync(opening, FRAME_S, delayed(audio, 1000)).offset_ms is None


def test_wrong_audio_correlates_less() -> None:
    (opening, audio), (_, other) = babble(1), babble(2)
    right, wrong = (sync.audio_sync(opening, FRAME_S, a).correlation for a in (audio, other))
    assert right is not None
    assert wrong is not None
    assert wrong < 0.5 < right


def test_too_little_sound_or_face_is_unknown() -> None:
    opening, audio = babble(1)
    quiet = np.where(np.arange(len(audio)) < 16000, audio, 0).astype(np.float32)
    assert sync.audio_sync(opening, FRAME_S, quiet).correlation is None
    assert sync.audio_sync(opening, FRAME_S, np.zeros_like(audio)) == sync.AudioSync(None, None, 0.0)
    assert sync.audio_sync(opening, FRAME_S, audio[:0]) == sync.AudioSync(None, None, 0.0)
    gone = np.where(FRAME_S < 1, opening, np.nan)
    assert sync.audio_sync(gone, FRAME_S, audio).correlation is None


def test_a_still_mouth_has_no_correlation() -> None:
    _, audio = babble(1)
    result = sync.audio_sync(np.full(len(FRAME_S), 0.1), FRAME_S, audio)
    assert result.correlation is None
    assert result.offset_ms is None


def test_lost_frames_change_little() -> None:
    opening, audio = babble(1)
    holes = opening.copy()
    holes[::7] = np.nan
    holes[60:90] = np.nan
    full, part = (sync.audio_sync(o, FRAME_S, audio) for o in (opening, holes))
    assert full.correlation is not None
    assert part.correlation == pytest.approx(full.correlation, abs=0.1)


def test_proxy_does_not_depend_on_the_block_length(monkeypatch: pytest.MonkeyPatch) -> None:
    _, audio = babble(3)
    whole, _ = sync.opening_proxy(audio)
    monkeypatch.setattr(sync, "BLOCK_HOPS", 37)
    blocks, _ = sync.opening_proxy(audio)
    np.testing.assert_allclose(blocks, whole, rtol=0, atol=1e-12)


def test_proxy_moves_with_the_sound_and_not_with_its_level() -> None:
    _, audio = babble(3)
    curve, _ = sync.opening_proxy(audio)
    quiet, _ = sync.opening_proxy(audio * np.float32(0.3))
    later, _ = sync.opening_proxy(np.concatenate((np.zeros(1600, np.float32), audio)))
    assert (sync.correlation(curve, quiet) or 0) > 0.999
    np.testing.assert_allclose(later[60:700], curve[50:690], atol=0.05)


def test_resample_bridges_short_gaps_and_not_long_ones() -> None:
    time_s = np.array([0.10, 0.14, 0.18, 0.30, 0.90, 0.94])
    values = np.array([1.0, np.nan, 3.0, 6.0, 7.0, 8.0])
    got = sync.resample(values, time_s, 100)
    np.testing.assert_allclose(got[[10, 14, 18, 24, 30, 91, 92]], [1, 2, 3, 4.5, 6, 7.25, 7.5])
    assert np.isnan(got[[0, 9, 31, 60, 89, 95, 99]]).all()


def test_resample_of_one_known_frame_is_unknown() -> None:
    assert np.isnan(sync.resample(np.array([1.0, np.nan]), np.array([0.0, 0.04]), 5)).all()


@pytest.mark.parametrize("lag", [-24, -3, 0, 11, 24])
def test_best_lag_finds_the_shift_unless_it_is_at_the_end(lag: int) -> None:
    curve = np.convolve(np.random.default_rng(0).normal(size=700), np.hanning(15), "same")
    r, lag_ms = sync.best_lag(curve[100 - lag : 500 - lag], curve[100:500])
    assert r == pytest.approx(1.0)
    if abs(lag) == 24:
        assert lag_ms is None
    else:
        assert lag_ms == pytest.approx(10 * lag, abs=1.0)


def test_best_lag_is_finer_than_a_sample() -> None:
    time_s = np.arange(400) / 100
    late, early = (np.exp(-(((time_s - 2 - d) / 0.2) ** 2)) for d in (0.0237, 0.0))
    assert sync.best_lag(late, early)[1] == pytest.approx(23.7, abs=0.5)


def test_best_lag_of_short_curves_is_unknown() -> None:
    assert sync.best_lag(np.arange(20.0), np.arange(20.0)) == (None, None)


def test_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50))
    assert sync.correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    a[3] = np.nan
    keep = np.isfinite(a)
    assert sync.correlation(a, b) == pytest.approx(np.corrcoef(a[keep], b[keep])[0, 1])
    assert sync.correlation(np.full(50, 7.7), b) is None
    assert sync.correlation(a[:2], b[:2]) is None
