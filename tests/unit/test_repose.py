import numpy as np
import pytest

pytest.importorskip("torch")

from engine.arrays import F32
from engine.face.model import LANDMARKS, load_face_model
from export.repose import displacement, repose
from tests.support.data import astronaut
from tests.support.toy_actor import crop_head, opened, resting_face

SIZE = 224


def points(opening_cm: float) -> F32:
    model = load_face_model()
    return model.vertices(resting_face(), opened(opening_cm), crop_head())[:LANDMARKS, :2]


def picture() -> F32:
    return np.asarray(astronaut()[:SIZE, 100 : 100 + SIZE], np.float32) / 255


def test_nothing_moves_nothing() -> None:
    np.testing.assert_array_equal(repose(picture(), points(0.5), points(0.5)), picture())


def test_skin_goes_where_the_mesh_goes() -> None:
    """Each vertex finds at its new place what was at its old one, to a pixel or two."""
    before, after = points(0.2), points(1.2)
    moved = np.linalg.norm(after - before, axis=1) > 3
    shift = displacement(SIZE, before, after)
    place = np.rint(after[moved]).astype(int).clip(0, SIZE - 1)
    error = np.linalg.norm(shift[place[:, 1], place[:, 0]] - (before - after)[moved], axis=1)
    assert moved.sum() > 50
    assert np.median(error) < 1.5


def test_away_from_the_face_nothing_moves() -> None:
    shift = displacement(SIZE, points(0), points(1.5))
    assert np.abs(shift[:10]).max() < 0.05
    assert np.abs(shift[:, :4]).max() < 1


def test_there_and_back_is_nearly_the_same() -> None:
    again = repose(repose(picture(), points(0.6), points(0.9)), points(0.9), points(0.6))
    assert np.abs(again - picture()).mean() < 0.02


def test_points_outside_the_picture_are_left_out() -> None:
    far = points(0) + np.float32(10_000)
    np.testing.assert_array_equal(repose(picture(), far, far + 5), picture())
