import numpy as np
import pytest

from engine.arrays import F32, F64
from engine.errors import NoFaceError
from engine.face.fit import Fitter, canonicalise, person_neutral, procrustes, rest_shape
from engine.face.model import LANDMARKS, STABLE, FaceModel, Pose, aperture, load_face_model
from tests.support.toy_actor import landmarks, opened, pose, resting_face

SCALE_PX = 24.0  # a face of about 400 px
POSES = [
    pose(scale_px=SCALE_PX, yaw_deg=yaw, roll_deg=roll, x_px=600, y_px=300)
    for yaw, roll in ((0, 0), (25, -8), (-40, 15))
]


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


@pytest.fixture(scope="module")
def fitter(model: FaceModel) -> Fitter:
    return Fitter(model, resting_face())


def angle_deg(a: F64, b: F64) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))


def rms_px(a: F32, b: F32) -> float:
    return float(np.sqrt(((a - b)[:, :2] ** 2).sum(-1).mean()))


def test_procrustes_is_exact_and_weighted() -> None:
    rng = np.random.default_rng(0)
    points, head = rng.standard_normal((20, 3)), POSES[1]
    found = procrustes(points, head.apply(points), np.ones(20))
    assert found.scale_px == pytest.approx(head.scale_px)
    np.testing.assert_allclose(found.rotation, head.rotation, atol=1e-9)
    np.testing.assert_allclose(found.translation_px, head.translation_px, atol=1e-7)
    picture = head.apply(points)
    picture[15:] += 1000
    weights = np.where(np.arange(20) < 15, 1.0, 0.0)
    np.testing.assert_allclose(procrustes(points, picture, weights).rotation, head.rotation, atol=1e-9)


def test_procrustes_never_mirrors() -> None:
    points = np.random.default_rng(1).standard_normal((20, 3))
    mirrored = points * [-1, 1, 1]
    assert np.linalg.det(procrustes(points, mirrored, np.ones(20)).rotation) == pytest.approx(1)


@pytest.mark.parametrize("head", POSES)
def test_recovers_pose_and_opening_from_noisy_landmarks(model: FaceModel, fitter: Fitter, head: Pose) -> None:
    truth = opened(1.5)
    state = fitter.fit(landmarks(head, truth, seed=1, noise_px=0.3), confidence=0.75)
    assert state.confidence == 0.75
    assert state.pose.scale_px == pytest.approx(SCALE_PX, rel=0.004)
    assert angle_deg(state.pose.rotation, head.rotation) < 0.5
    np.testing.assert_allclose(state.pose.translation_px[:2], head.translation_px[:2], atol=0.6)
    opening = float(state.expression @ aperture(model.basis))
    assert opening == pytest.approx(1.5, abs=0.08)


@pytest.mark.parametrize("head", POSES)
def test_model_and_residual_explain_the_landmarks(model: FaceModel, fitter: Fitter, head: Pose) -> None:
    expression = np.random.default_rng(3).standard_normal(model.expressions).astype(np.float32)
    seen = landmarks(head, expression)[:LANDMARKS]
    state = fitter.fit(seen)
    drawn = model.vertices(resting_face(), state.expression, state.pose)[:LANDMARKS]
    assert rms_px(drawn[model.lower], seen[model.lower]) < 0.03 * SCALE_PX
    whole = drawn + state.pose.scale_px * (state.residual @ state.pose.rotation.T)
    np.testing.assert_allclose(whole, seen, atol=1e-2)


def test_speech_hardly_moves_the_pose(fitter: Fitter) -> None:
    head = POSES[0]
    states = [fitter.fit(landmarks(head, opened(o))) for o in (0.0, 1.0, 2.5)]
    for state in states:
        assert angle_deg(state.pose.rotation, head.rotation) < 0.4
        np.testing.assert_allclose(state.pose.translation_px[:2], head.translation_px[:2], atol=0.4)


def test_fit_does_not_depend_on_place_and_size(fitter: Fitter) -> None:
    points = landmarks(POSES[1], opened(1), seed=2, noise_px=0.4).astype(np.float64)
    near, far = fitter.fit(points), fitter.fit(points * 0.5 + [100, -20, 3])
    np.testing.assert_allclose(near.expression, far.expression, atol=1e-4)
    np.testing.assert_allclose(near.pose.rotation, far.pose.rotation, atol=1e-9)
    assert far.pose.scale_px == pytest.approx(near.pose.scale_px / 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_face_is_said(fitter: Fitter, bad: float) -> None:
    points = landmarks(POSES[0])
    points[7, 1] = bad
    with pytest.raises(NoFaceError, match="not finite"):
        fitter.fit(points)


def test_canonicalise_takes_the_pose_away(model: FaceModel) -> None:
    frames = [landmarks(head, opened(1)) for head in POSES]
    canonical = canonicalise(frames, resting_face()[:LANDMARKS])
    np.testing.assert_allclose(canonical[0], canonical[1], atol=1e-3)
    stable = list(STABLE)
    np.testing.assert_allclose(canonical[2][stable], resting_face()[stable], atol=1e-3)


def test_neutral_has_closed_lips_whatever_was_said(model: FaceModel) -> None:
    openings = np.maximum(2 * np.sin(np.arange(60) / 3), 0)
    frames = np.stack(
        [landmarks(POSES[i % 3], opened(o), seed=i, noise_px=0.2) for i, o in enumerate(openings)]
    )
    frames[10] = np.nan
    neutral = person_neutral(model, frames)
    assert neutral.dtype == np.float32
    assert neutral.shape == (LANDMARKS, 3)
    assert abs(aperture(neutral)) < 0.05


def test_rest_shape_is_of_the_most_closed_frames() -> None:
    shapes = np.repeat(resting_face()[None, :LANDMARKS].astype(np.float64), 20, axis=0)
    shapes[4:] += np.tensordot(opened(1.0), load_face_model().basis, 1)[:LANDMARKS]
    np.testing.assert_allclose(rest_shape(shapes), shapes[0], atol=1e-9)


def test_no_face_in_any_frame_is_said(model: FaceModel) -> None:
    with pytest.raises(NoFaceError, match="any frame"):
        person_neutral(model, np.full((3, 478, 3), np.nan, np.float32))
