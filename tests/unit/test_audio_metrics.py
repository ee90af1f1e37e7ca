"""Lip metrics against planted truths."""

import numpy as np
import pytest
from msgspec import structs

from engine.arrays import F32, F64
from engine.errors import NoFaceError
from engine.face.model import FaceModel, load_face_model
from engine.timing import MEL_RATE_HZ
from export.audio_metrics import (
    LipMotion,
    closed,
    closure_score,
    compare,
    fit_track,
    fitted,
    inside,
    lip_speed_mm_s,
    lip_vertex_error_mm,
    motion_of,
    opening_range,
    phone_closures,
    runs,
    silences,
)
from export.phones import Phone
from tests.support.toy_set import toy_packed

SECONDS = 12
COUNT = SECONDS * MEL_RATE_HZ
EVERYWHERE = np.ones(COUNT, np.bool_)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


def syllables(seed: int = 0, *, closures: tuple[float, ...] = ()) -> F64:
    """An opening at 100 Hz, cm: smooth, 0.2 to 1; closed for 80 ms at each of `closures`, s."""
    rng = np.random.default_rng(seed)
    knots = rng.uniform(0.45, 1.0, SECONDS * 5 + 1)
    at = np.arange(COUNT) / MEL_RATE_HZ
    opening = np.interp(at, np.arange(len(knots)) / 5, knots)
    for middle_s in closures:
        opening *= 1 - np.exp(-(((at - middle_s) / 0.05) ** 4))
    return opening


def motion(opening: F64, model: FaceModel) -> LipMotion:
    """A mouth that opens so far."""
    expression = (opening[:, None] * model.jaw_open).astype(np.float32)
    return motion_of(expression, np.arange(len(opening)) / MEL_RATE_HZ, model)


CLOSURES = (1.0, 2.3, 3.1, 4.6, 5.9, 7.2, 8.8, 10.4)


def test_the_same_mouth_scores_best(model: FaceModel) -> None:
    real = motion(syllables(closures=CLOSURES), model)
    score = compare(real, real, [(3.0, 4.0)])
    assert score.correlation == pytest.approx(1)
    assert score.lag_ms == pytest.approx(0, abs=0.1)
    assert (score.range_ratio, score.speed_ratio) == (1, 1)
    assert (score.lve_mm, score.lve_centred_mm) == (0, 0)
    assert score.closures == len(CLOSURES) - 1  # one is in silence
    assert (score.recall, score.precision) == (1, 1)
    assert score.silence_s == pytest.approx(1)
    assert score.silence_speed_mm_s == score.silence_speed_real_mm_s


@pytest.mark.parametrize("late_ms", [-120, -40, 30, 200])
def test_a_planted_lag_is_found(model: FaceModel, late_ms: int) -> None:
    real = syllables(closures=CLOSURES)
    said = np.roll(real, late_ms // 10)
    score = compare(motion(said, model), motion(real, model))
    assert score.lag_ms == pytest.approx(late_ms, abs=3)
    assert score.correlation_at_lag == pytest.approx(1, abs=0.01)
    assert score.correlation is not None
    assert score.correlation < 0.9


@pytest.mark.parametrize("gain", [0.5, 0.8, 1.3])
def test_mumbling_shows_in_range_and_speed_alone(model: FaceModel, gain: float) -> None:
    real = syllables(closures=CLOSURES)
    score = compare(motion(gain * real, model), motion(real, model))
    assert score.range_ratio == pytest.approx(gain, rel=1e-3)
    assert score.speed_ratio == pytest.approx(gain, rel=1e-3)
    assert score.correlation == pytest.approx(1)
    assert score.lag_ms == pytest.approx(0, abs=0.1)


def test_smoothing_loses_speed_before_range(model: FaceModel) -> None:
    real = syllables(closures=CLOSURES)
    smooth = np.convolve(np.pad(real, 10, mode="edge"), np.ones(21) / 21, "valid")
    score = compare(motion(smooth, model), motion(real, model))
    assert score.speed_ratio is not None
    assert score.range_ratio is not None
    assert score.speed_ratio < score.range_ratio < 1
    assert score.speed_ratio < 0.85


def test_a_constant_offset_changes_only_the_error_in_place(model: FaceModel) -> None:
    real = syllables(closures=CLOSURES)
    plain = compare(motion(real, model), motion(real, model))
    moved = compare(motion(real + 0.08, model), motion(real, model))
    assert moved.lve_mm is not None
    assert moved.lve_mm > 0.5
    assert moved.lve_centred_mm == pytest.approx(0, abs=1e-3)
    assert structs.replace(
        moved, lve_mm=0, lve_centred_mm=0, correlation=1, lag_ms=0, correlation_at_lag=1
    ) == structs.replace(
        plain,
        lve_mm=0,
        lve_centred_mm=0,
        correlation=1,
        lag_ms=0,
        correlation_at_lag=1,
        range_ratio=moved.range_ratio,
        speed_ratio=moved.speed_ratio,
        silence_speed_mm_s=moved.silence_speed_mm_s,
    )
    assert moved.range_ratio == pytest.approx(1, rel=1e-3)


def test_unrelated_mouths_have_no_lag(model: FaceModel) -> None:
    score = compare(motion(syllables(1), model), motion(syllables(2), model))
    assert score.correlation is not None
    assert abs(score.correlation) < 0.3
    assert score.lag_ms is None


def test_error_is_the_worst_point(model: FaceModel) -> None:
    real = motion(syllables(), model)
    lips = real.lips.copy()
    lips[:, 7, 0] += 0.2  # cm
    lips[:, 9, 1] -= 0.1
    assert lip_vertex_error_mm(lips, real.lips, centred=False) == pytest.approx(2.0)
    assert lip_vertex_error_mm(lips, real.lips, centred=True) == pytest.approx(0, abs=1e-9)
    assert lip_vertex_error_mm(lips * np.nan, real.lips, centred=True) is None


def test_speed_of_a_steady_motion() -> None:
    lips = np.zeros((COUNT, 40, 3))
    lips[..., 0] = (np.arange(COUNT) / MEL_RATE_HZ)[:, None]  # 1 cm/s
    assert lip_speed_mm_s(lips, EVERYWHERE) == pytest.approx(10)
    assert lip_speed_mm_s(lips, ~EVERYWHERE) is None
    assert lip_speed_mm_s(lips[:5], EVERYWHERE[:5]) is None


def test_missed_and_wrong_closures_are_counted() -> None:
    real, said = syllables(closures=CLOSURES), syllables(closures=(*CLOSURES[:6], 9.6, 11.2))
    score = closure_score(said, real, EVERYWHERE)
    assert (score.wanted, score.kept) == (8, 6)
    assert (score.made, score.right) == (8, 6)
    assert (score.recall, score.precision) == (0.75, 0.75)


def test_closures_may_be_a_little_early_or_late() -> None:
    real = syllables(closures=CLOSURES)
    for late in (-4, 3):
        score = closure_score(np.roll(real, late), real, EVERYWHERE)
        assert (score.recall, score.precision) == (1, 1)
    assert closure_score(np.roll(real, 30), real, EVERYWHERE).recall == 0


def test_a_mouth_that_hardly_moves_is_not_judged() -> None:
    flat = np.full(COUNT, 0.4) + 0.001 * syllables()
    assert closure_score(syllables(), flat, EVERYWHERE).wanted == 0
    assert closure_score(syllables(), flat, EVERYWHERE).recall is None
    phones = [Phone("p", 1.0, 1.1), Phone("a", 1.1, 1.5)]
    missed = phone_closures(flat, phones)
    assert (missed.recall, missed.precision) == (0, None)


def spoken(*names: str, start_s: float = 1.0, each_s: float = 0.2) -> list[Phone]:
    return [Phone(name, start_s + i * each_s, start_s + (i + 1) * each_s) for i, name in enumerate(names)]


def test_closures_on_known_sounds() -> None:
    phones = spoken("sil", "p", "ɑ", "t", "a", "m", "i", "f", "a", "b", "o", "s", "e", "sil")
    middles = {phone.name: (phone.start_s + phone.end_s) / 2 for phone in phones}
    right = syllables(closures=tuple(middles[name] for name in "pmb"))
    score = phone_closures(right, phones)
    assert (score.wanted, score.kept, score.made, score.right) == (3, 3, 3, 3)
    wrong = syllables(closures=tuple(middles[name] for name in "pms"))
    score = phone_closures(wrong, phones)
    assert (score.wanted, score.kept, score.made, score.right) == (3, 2, 3, 2)


@pytest.mark.parametrize("at", ["f", "sil"])
def test_closures_where_lips_may_close_count_neither_way(at: str) -> None:
    phones = spoken("sil", "a", "e", "p", "ɑ", "t", "a", "f", "i", "s", "e")
    middles = {phone.name: (phone.start_s + phone.end_s) / 2 for phone in phones}
    score = phone_closures(syllables(closures=(middles["p"], middles[at])), phones)
    assert (score.wanted, score.kept, score.made, score.right) == (1, 1, 1, 1)


def test_counts_add_up() -> None:
    real, said = syllables(closures=CLOSURES), syllables(closures=CLOSURES[:4])
    both = closure_score(said, real, EVERYWHERE) + closure_score(real, real, EVERYWHERE)
    assert (both.wanted, both.kept) == (16, 12)
    assert both.precision == 1


def test_silence_is_found_and_guarded() -> None:
    mels = np.random.default_rng(0).normal(-2, 0.5, (600, 80)).astype(np.float32)
    mels[100:200] = -9 + np.random.default_rng(1).normal(0, 0.3, (100, 80))
    mels[300:320] = -9  # too short
    found = silences(mels)
    assert len(found) == 1
    assert found[0] == pytest.approx((1.12, 1.88), abs=0.02)
    assert silences(np.full((200, 80), -13.8, np.float32)) == [pytest.approx((0.12, 1.88))]


def test_motion_bridges_short_gaps_alone(model: FaceModel) -> None:
    time_s = np.array([0.0, 0.04, 0.08, 0.2, 0.9, 0.94])
    moved = motion_of(np.outer(np.ones(6), model.jaw_open).astype(np.float32), time_s, model, count=100)
    assert len(moved) == 100
    assert np.isfinite(moved.opening[:20]).all()
    assert np.isnan(moved.opening[25:90]).all()
    assert np.isnan(moved.lips[50]).all()
    assert moved.opening[10] == pytest.approx(1, abs=0.02)
    assert moved.lips.shape == (100, 40, 3)


def test_packed_and_tracked_mouths_are_the_same_motion(model: FaceModel) -> None:
    packed = toy_packed(frames=12, audio_lag_ms=40.0)
    expression, time_s = fitted(packed, model)
    assert len(expression) == len(time_s) == 11
    np.testing.assert_allclose(time_s, packed.time_s[packed.found] - 0.04)
    marks: F32 = packed.all_landmarks()
    tracked = fit_track(marks, packed.time_s - 0.04, model, packed.neutral)
    np.testing.assert_array_equal(expression, tracked[0])
    with pytest.raises(NoFaceError, match="two frames"):
        fit_track(marks[:2], packed.time_s[:2], model, packed.neutral)


def test_small_helpers() -> None:
    assert runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert runs(np.zeros(3, np.bool_)) == []
    assert inside([(-1, 0.02), (0.04, 9)], 6).tolist() == [True, True, False, False, True, True]
    assert opening_range(np.full(5, np.nan)) == 0
    assert not closed(np.array([np.nan, 0.0, 1.0]), 1.0)[[0, 2]].any()
