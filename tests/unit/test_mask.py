import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrays import F32
from engine.face.model import LANDMARKS, UPPER_CARD, load_face_model
from engine.render.mask import (
    FEATHER_CM,
    MARGIN_CM,
    WIDE_OPEN_CM,
    half_planes,
    hull,
    soft_mask,
    soft_mask_reference,
)
from tests.support.toy_actor import SIZE_PX, crop_head, opened, resting_face

SQUARE = np.array([[8, 10], [24, 10], [24, 30], [8, 30]], np.float32)


def face_mask(opening: float, yaw_deg: float = 0.0, *, reference: bool = False) -> F32:
    head = crop_head(yaw_deg=yaw_deg)
    corners = hull(load_face_model(), resting_face(), opened(opening), head)
    compute = soft_mask_reference if reference else soft_mask
    return compute(corners, MARGIN_CM * head.scale_px, FEATHER_CM * head.scale_px, SIZE_PX, SIZE_PX)


@pytest.mark.parametrize("yaw_deg", [0.0, -40.0])
def test_fast_is_the_reference(yaw_deg: float) -> None:
    fast, slow = face_mask(1.0, yaw_deg), face_mask(1.0, yaw_deg, reference=True)
    assert fast.dtype == np.float32
    np.testing.assert_allclose(fast, slow, atol=1e-5)
    np.testing.assert_array_equal(fast > 0, slow > 0)


@pytest.mark.parametrize("corners", [SQUARE, SQUARE[::-1]])
def test_half_planes_tell_how_far_a_point_is_inside(corners: F32) -> None:
    normals, offsets = half_planes(corners)
    distances = normals @ np.array([10, 15], np.float32) - offsets
    np.testing.assert_allclose(sorted(distances), [-15, -14, -5, -2])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(-10, 60), st.integers(-10, 60)), min_size=3, max_size=12), st.booleans()
)
def test_any_hull_either_way_round(points: list[tuple[int, int]], backwards: bool) -> None:
    import cv2

    corners = np.asarray(cv2.convexHull(np.array(points, np.float32)), np.float32).reshape(-1, 2)
    area = cv2.contourArea(corners)
    if len(corners) < 3 or area < 1:
        return
    corners = np.ascontiguousarray(corners[::-1]) if backwards else corners
    mask = soft_mask(corners, 1.5, 4.0, 48, 40)
    np.testing.assert_allclose(mask, soft_mask_reference(corners, 1.5, 4.0, 48, 40), atol=1e-4)
    assert mask.min() >= 0
    assert mask.max() <= 1
    for line in (*mask, *mask.T):
        inside = np.flatnonzero(line > 0)
        assert len(inside) == 0 or len(inside) == np.ptp(inside) + 1, "an area without holes or dents"


def test_ramp_is_a_distance() -> None:
    mask = soft_mask(SQUARE, 2.0, 4.0, 40, 32)
    np.testing.assert_allclose(mask[20, 5:13], [0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(mask, mask[:, ::-1], atol=1e-6)


def test_hull_is_the_same_for_every_small_opening() -> None:
    closed = face_mask(0.0)
    for opening in (0.3, 1.0, 2.0, WIDE_OPEN_CM - 0.01):
        np.testing.assert_allclose(face_mask(opening), closed, atol=1e-4)
    assert face_mask(WIDE_OPEN_CM + 2).sum() > closed.sum() * 1.05


@pytest.mark.parametrize("yaw_deg", [-35.0, 0.0, 35.0])
@pytest.mark.parametrize("opening", [0.0, WIDE_OPEN_CM])
def test_hull_covers_what_speech_moves(yaw_deg: float, opening: float) -> None:
    """What the expression moves by more than the feather hides lies where the mask is not 0."""
    model, head = load_face_model(), crop_head(yaw_deg=yaw_deg)
    mask = face_mask(0.0, yaw_deg)
    moves = np.linalg.norm(np.tensordot(opened(1.0), model.basis, 1), axis=1)
    moved = np.flatnonzero(moves > 0.25)
    moved = moved[moved < LANDMARKS]
    points = model.vertices(resting_face(), opened(opening), head)[moved, :2]
    inside = (points > 0).all(1) & (points < SIZE_PX).all(1)
    columns, rows = points[inside].astype(int).T
    assert inside.mean() > 0.9
    assert (mask[rows, columns] > 0).all()


@pytest.mark.parametrize("opening", [0.0, 2.0])
def test_lips_and_teeth_are_wholly_redrawn(opening: float) -> None:
    model, mask = load_face_model(), face_mask(0.0)
    vertices = model.vertices(resting_face(), opened(opening), crop_head())
    lips = vertices[[0, 13, 14, 17, 61, 291]].astype(int)
    assert (mask[lips[:, 1], lips[:, 0]] == 1).all()
    teeth = vertices[UPPER_CARD].astype(int)
    assert mask[teeth[:, 1], teeth[:, 0]].min() > 0.5


def test_mask_leaves_the_crops_edge_alone() -> None:
    mask = face_mask(1.0)
    assert not mask[[0, -1]].any()
    assert mask[:, [0, -1]].max() < 0.2, (
        "a head in the middle of its crop; the compositor's window does the rest"
    )
