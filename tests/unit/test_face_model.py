import numpy as np
import pytest

from engine.errors import AssetError
from engine.face.model import (
    CAVITY,
    INNER_LIPS,
    LANDMARKS,
    LOWER_CARD,
    LOWER_TEETH,
    MOUTH_CORNERS,
    SKIN,
    UPPER_CARD,
    UPPER_TEETH,
    VERTICES,
    FaceModel,
    aperture,
    from_bytes,
    load_face_model,
)
from tests.support.toy_actor import opened, pose, resting_face

HEAD = pose(scale_px=20, yaw_deg=25, roll_deg=-10, x_px=300, y_px=200)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


def test_shipped_model_is_whole(model: FaceModel) -> None:
    assert model.canonical.shape == (LANDMARKS, 3)
    assert model.basis.shape == (model.expressions, VERTICES, 3)
    assert model.uv.shape == (VERTICES, 2)
    assert model.uv.min() >= 0
    assert model.uv.max() <= 1
    assert model.triangles.min() >= 0
    assert model.triangles.max() < VERTICES
    assert set(model.layers.tolist()) == {SKIN, CAVITY, LOWER_TEETH, UPPER_TEETH}
    assert (np.diff(model.layers) >= 0).all(), "triangles come in painting order"


def test_layers_have_texture_areas_of_their_own(model: FaceModel) -> None:
    boxes = []
    for layer in (SKIN, CAVITY, LOWER_TEETH, UPPER_TEETH):
        uv = model.uv[np.unique(model.triangles[model.layers == layer])]
        boxes.append((uv.min(0), uv.max(0)))
    for i, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[i + 1 :]:
            assert (low > other_high).any() or (high < other_low).any()


def test_expression_moves_the_lower_face_and_what_hangs_on_it(model: FaceModel) -> None:
    moved = np.flatnonzero(np.abs(model.basis).max(axis=(0, 2)) > 0)
    skin = moved[moved < LANDMARKS]
    assert set(skin) <= set(model.lower.tolist())
    assert not model.basis[:, UPPER_CARD].any(), "upper teeth are rigid"
    np.testing.assert_array_equal(
        model.basis[:, LANDMARKS : LOWER_CARD.start], model.basis[:, list(INNER_LIPS)]
    )
    assert np.ptp(model.basis[:, LOWER_CARD], axis=1).max() < 1e-6, "the lower row moves as one piece"


def test_jaw_open_opens_by_one_unit(model: FaceModel) -> None:
    assert aperture(np.tensordot(model.jaw_open, model.basis, 1)) == pytest.approx(1, abs=1e-5)
    chin_down = np.tensordot(model.jaw_open, model.basis, 1)[152, 1]
    assert chin_down > 0.3
    neutral = resting_face()
    shown = neutral + np.tensordot(opened(1.5), model.basis, 1)
    assert aperture(shown) - aperture(neutral) == pytest.approx(1.5, abs=1e-4)


def test_inner_mouth_follows_the_persons_lips(model: FaceModel) -> None:
    moved = model.canonical + np.float32(0.5)
    np.testing.assert_allclose(model.extend(moved), model.extend(model.canonical) + 0.5, atol=1e-5)
    wide = model.canonical * np.array([1.2, 1, 1], np.float32)
    for card in (LOWER_CARD, UPPER_CARD):
        narrow_width, wide_width = (np.ptp(model.extend(face)[card, 0]) for face in (model.canonical, wide))
        assert wide_width == pytest.approx(1.2 * narrow_width, rel=1e-4)
        lips = model.canonical[list(MOUTH_CORNERS), 0]
        assert narrow_width < np.ptp(lips), "teeth do not stick out of the mouth"
        assert model.extend(model.canonical)[card, 2].min() > model.canonical[list(INNER_LIPS), 2].min()


def test_pose_there_and_back() -> None:
    points = np.random.default_rng(0).standard_normal((7, 3)) * 5
    np.testing.assert_allclose(HEAD.undo(HEAD.apply(points)), points, atol=1e-12)


def test_vertices_are_expressed_and_posed(model: FaceModel) -> None:
    neutral, expression = resting_face(), opened(0.7)
    expected = HEAD.apply(neutral + np.tensordot(expression, model.basis, 1))
    got = model.vertices(neutral, expression, HEAD)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("wrong", [np.zeros((VERTICES, 3)), np.zeros((LANDMARKS, 3), np.float32)])
def test_wrong_neutral_is_refused(model: FaceModel, wrong: np.ndarray) -> None:
    with pytest.raises((TypeError, ValueError), match="neutral"):
        model.vertices(wrong, opened(0), HEAD)


@pytest.mark.parametrize("data", [b"", b"nothing", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_damaged_asset_is_named(data: bytes) -> None:
    with pytest.raises(AssetError, match="face model is damaged"):
        from_bytes(data)
