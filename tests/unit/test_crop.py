import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.face.crop import CENTRE_CM, SIDE_CM, CropBox, crop_pose, follow, jumped, to_crop
from engine.face.model import Pose
from engine.image.resize import Square
from tests.support.toy_actor import landmarks, pose, resting_face

SCALE_PX = 20.0
SIDE_PX = SIDE_CM * SCALE_PX


def head(x: float = 600, y: float = 300, scale: float = SCALE_PX) -> Pose:
    return pose(scale_px=scale, x_px=x, y_px=y)


def walk(poses: list[Pose]) -> list[CropBox]:
    boxes: list[CropBox] = []
    for one in poses:
        boxes.append(follow(boxes[-1] if boxes else None, one))
    return boxes


def test_first_box_is_centred_on_the_lower_face() -> None:
    box = follow(None, head())
    x, y, _ = head().apply(CENTRE_CM)
    assert (box.centre_x_px, box.centre_y_px, box.side_px) == pytest.approx((x, y, SIDE_PX))
    lower = landmarks(head())[[152, 61, 291, 2], :2]
    square = box.square
    assert (lower > [square.x, square.y]).all()
    assert (lower < [square.x + square.side_px, square.y + square.side_px]).all()


def test_box_holds_still_while_the_face_trembles() -> None:
    rng = np.random.default_rng(0)
    jitter = 0.03 * SIDE_PX * rng.uniform(-1, 1, (50, 2))
    scales = SCALE_PX * (1 + 0.05 * rng.uniform(-1, 1, 50))
    boxes = walk([head()] + [head(600 + dx, 300 + dy, s) for (dx, dy), s in zip(jitter, scales, strict=True)])
    assert {box.square for box in boxes} == {boxes[0].square}


def test_box_follows_a_walk() -> None:
    poses = [head(600 + 4 * i) for i in range(80)]
    boxes = walk(poses)
    x = np.array([box.centre_x_px for box in boxes])
    wanted = np.array([one.apply(CENTRE_CM)[0] for one in poses])
    steps = np.diff(x)
    assert (steps >= 0).all(), "never back"
    assert steps.max() < 6, "glides"
    assert np.abs(wanted - x).max() < 0.11 * SIDE_PX
    assert steps[-10:] == pytest.approx(4, abs=0.1), "keeps pace"


def test_box_follows_the_size() -> None:
    boxes = walk([head(scale=SCALE_PX * 1.01**i) for i in range(60)])
    assert boxes[-1].side_px == pytest.approx(SIDE_PX * 1.01**59, rel=0.14)
    assert boxes[0].side_px == pytest.approx(SIDE_PX)


def test_box_jumps_with_a_cut() -> None:
    box = follow(follow(None, head()), head(1000, 100))
    assert (box.centre_x_px, box.centre_y_px) == pytest.approx(tuple(head(1000, 100).apply(CENTRE_CM)[:2]))
    half = follow(follow(None, head()), head(scale=SCALE_PX / 2.2))
    assert half.side_px == pytest.approx(SIDE_PX / 2.2)


def test_a_jump_is_told_from_a_glide() -> None:
    box = follow(None, pose(scale_px=10, x_px=200, y_px=100))
    for moved_px, jumps in ((0, False), (70, False), (-70, False), (80, True), (300, True)):
        assert jumped(box, follow(box, pose(scale_px=10, x_px=200 + moved_px, y_px=100))) == jumps
    assert jumped(box, follow(box, pose(scale_px=20, x_px=200, y_px=100)))


@settings(deadline=None, max_examples=50)
@given(st.floats(-500, 2000), st.floats(-500, 2000), st.floats(1, 900))
def test_square_is_even_and_near_the_box(x: float, y: float, side: float) -> None:
    square = CropBox(x, y, side).square
    assert square.x % 2 == square.y % 2 == square.side_px % 2 == 0
    assert square.side_px == max(16, square.side_px)
    assert abs(square.side_px - side) <= 1 + 1e-9 or square.side_px == 16
    assert abs(square.x + square.side_px / 2 - x) <= 1 + 1e-9
    assert abs(square.y + square.side_px / 2 - y) <= 1 + 1e-9


def test_points_and_pose_agree_in_the_crop() -> None:
    square, size = Square(300, 120, 350), 224
    one = pose(scale_px=SCALE_PX, yaw_deg=20, roll_deg=5, x_px=500, y_px=250)
    points = resting_face()
    moved = to_crop(one.apply(points).astype(np.float32), square, size)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, crop_pose(one, square, size).apply(points), atol=1e-2)
    corners = np.array([[300, 120, 0], [650, 470, 0]], np.float32)
    np.testing.assert_allclose(to_crop(corners, square, size)[:, :2], [[0, 0], [224, 224]], atol=1e-4)
