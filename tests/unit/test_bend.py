from dataclasses import replace

import cv2
import numpy as np
import pytest

from engine.arrays import F32
from engine.composite.bend import bend, bend_frame, cells_of, coarse_displacement, displacement, travel
from engine.face.model import LANDMARKS, load_face_model
from engine.image.resize import Square, read_square
from engine.image.yuv import Colour, rgb_to_i420
from engine.render.mask import FEATHER_CM, MARGIN_CM, hull, soft_mask
from tests.support.data import astronaut
from tests.support.toy_actor import crop_head, opened, resting_face

SIZE = 224
BT709 = Colour("bt709", full_range=False)


def shift(before_cm: float, after_cm: float) -> F32:
    return displacement(
        load_face_model(), resting_face(), opened(before_cm), opened(after_cm), crop_head(), SIZE
    )


def points(opening_cm: float) -> F32:
    model = load_face_model()
    return np.asarray(model.vertices(resting_face(), opened(opening_cm), crop_head())[:LANDMARKS, :2])


def picture() -> F32:
    return np.asarray(astronaut()[:SIZE, 100 : 100 + SIZE], np.float32) / np.float32(255)


def test_the_same_expression_moves_nothing() -> None:
    assert not shift(0.5, 0.5).any()
    np.testing.assert_array_equal(bend(picture(), shift(0.5, 0.5)), picture())


def test_the_displacement_is_the_coarse_one_widened() -> None:
    head, size = crop_head(), SIZE
    coarse = coarse_displacement(load_face_model(), resting_face(), opened(0.2), opened(1.5), head, size)
    assert coarse.shape == (cells_of(size), cells_of(size), 2)
    assert np.abs(coarse).max() > 1
    np.testing.assert_array_equal(cv2.resize(coarse, (size, size)), shift(0.2, 1.5))


def test_skin_goes_where_the_mesh_goes() -> None:
    """Each vertex finds at its new place what was at its old one, to a pixel or two."""
    before, after = points(0.2), points(1.2)
    moved = np.linalg.norm(after - before, axis=1) > 3
    found = travel(before, after, SIZE)
    place = np.rint(after[moved]).astype(int).clip(0, SIZE - 1)
    error = np.linalg.norm(found[place[:, 1], place[:, 0]] - (before - after)[moved], axis=1)
    assert moved.sum() > 50
    assert np.median(error) < 1.5


def test_outside_the_mask_nothing_moves() -> None:
    model, head = load_face_model(), crop_head()
    corners = hull(model, resting_face(), opened(1.5), head)
    mask = soft_mask(corners, MARGIN_CM * head.scale_px, FEATHER_CM * head.scale_px, SIZE, SIZE)
    far = soft_mask(corners, (MARGIN_CM + 0.4) * head.scale_px, 1, SIZE, SIZE) == 0
    moved = np.abs(shift(0, 1.5)).max(-1)
    assert not moved[far].any()
    assert moved[mask == 1].max() > 5


def test_a_jaw_that_reaches_the_crops_edge_leaves_no_straight_seam() -> None:
    """Movement fades towards every edge, as the mask of what is pasted does."""
    model = load_face_model()
    for off_px in ((-90, 0, 0), (90, 0, 0), (0, 50, 0)):
        head = replace(crop_head(), translation_px=crop_head().translation_px + off_px)
        moved = displacement(model, resting_face(), opened(0), opened(1.5), head, SIZE)
        assert np.abs(moved).max() > 2
        for edge in (moved[0], moved[-1], moved[:, 0], moved[:, -1]):
            assert not edge.any()


def test_there_and_back_is_nearly_the_same() -> None:
    again = bend(bend(picture(), shift(0.6, 0.9)), shift(0.9, 0.6))
    assert np.abs(again - picture()).mean() < 0.02


def test_points_outside_the_picture_are_left_out() -> None:
    far = points(0) + np.float32(10_000)
    assert not travel(far, far + 5, SIZE).any()


@pytest.mark.parametrize(
    "square", [Square(100, 0, 224), Square(100, 0, 448), Square(-60, -40, 300), Square(300, 260, 300)]
)
def test_a_frame_is_bent_as_its_crop_is(square: Square) -> None:
    """At the frame's own resolution, in its own planes; what does not move keeps its bytes."""
    image, before = rgb_to_i420(astronaut(), BT709), rgb_to_i420(astronaut(), BT709)
    crop = read_square(image, square, BT709, SIZE)
    assert crop is not None
    bend_frame(image, square, shift(0.2, 1.0))
    got = read_square(image, square, BT709, SIZE)
    assert got is not None
    expected = bend(crop, shift(0.2, 1.0)).astype(int)
    within = np.abs(shift(0.2, 1.0)).max(-1) > 0
    assert np.abs(got.astype(int) - expected)[within].mean() < 4
    far = np.ones(image.y.shape, bool)
    top, left = max(square.y, 0), max(square.x, 0)
    far[top : square.y + square.side_px, left : square.x + square.side_px] = False
    np.testing.assert_array_equal(image.y[far], before.y[far])
    assert (image.y != before.y).any()


@pytest.mark.parametrize("square", [Square(900, 0, 224), Square(100, 490, 224), Square(100, 0, 10)])
def test_where_nothing_of_the_frame_moves_it_is_left_alone(square: Square) -> None:
    image, before = rgb_to_i420(astronaut(), BT709), rgb_to_i420(astronaut(), BT709)
    still = square.side_px < SIZE
    bend_frame(image, square, shift(0, 0 if still else 1))
    np.testing.assert_array_equal(image.y, before.y)
