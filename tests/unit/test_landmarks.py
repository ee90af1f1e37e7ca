import cv2
import numpy as np
import pytest

from engine.backends.litert import LiteRTNetwork
from engine.face.detector import Region
from engine.face.landmarks import LandmarkNetwork, Landmarks
from engine.face.tracker import read_bundle
from tests.support.data import astronaut, model_file

NOSE_TIP, CHIN, UPPER_LIP, LOWER_LIP, FOREHEAD = 1, 152, 13, 14, 10
FACE = Region(225.5, 124.1, 162.9, 0.05)
# Read from the picture by eye, px: the outer corners of the eyes and the tip of the nose.
BY_EYE = {33: (195, 101), 263: (255, 103), NOSE_TIP: (224, 131)}


@pytest.fixture(scope="module")
def network() -> LandmarkNetwork:
    return LandmarkNetwork(LiteRTNetwork(read_bundle(model_file("face_landmarker"))[1], label="landmarks"))


def test_landmarks_lie_on_the_face(network: LandmarkNetwork) -> None:
    found = network.read(astronaut(), FACE)
    assert found.points.shape == (478, 3)
    assert found.points.dtype == np.float32
    assert found.confidence > 0.99
    for point, place in BY_EYE.items():
        assert found.points[point, :2] == pytest.approx(place, abs=4)
    order = [found.points[i, 1] for i in (FOREHEAD, NOSE_TIP, UPPER_LIP, LOWER_LIP, CHIN)]
    assert order == sorted(order)
    assert found.points[NOSE_TIP, 2] < found.points[CHIN, 2]


def test_a_region_without_a_face_has_no_confidence(network: LandmarkNetwork) -> None:
    assert network.read(astronaut(), Region(60, 420, 160, 0.0)).confidence < 0.5
    assert network.read(np.zeros((64, 64, 3), np.uint8), Region(32, 32, 64, 0.0)).confidence < 0.5


def test_regions_lead_to_themselves(network: LandmarkNetwork) -> None:
    region = FACE
    for _ in range(4):
        region = network.read(astronaut(), region).region()
    assert region.x_px == pytest.approx(FACE.x_px, abs=1)
    assert region.y_px == pytest.approx(FACE.y_px, abs=1)
    assert region.side_px == pytest.approx(FACE.side_px, abs=3)


def test_landmarks_move_with_the_picture(network: LandmarkNetwork) -> None:
    """A shift by whole px and a turn of the picture move region and landmarks alike."""
    before = network.read(astronaut(), FACE).points
    shifted = np.roll(astronaut(), (40, 25), axis=(0, 1))
    after = network.read(shifted, Region(FACE.x_px + 25, FACE.y_px + 40, FACE.side_px, FACE.angle_rad)).points
    np.testing.assert_allclose(after - before, np.broadcast_to([25, 40, 0], before.shape), atol=0.05)
    turned = np.ascontiguousarray(np.rot90(astronaut(), -1))  # clockwise: (x, y) goes to (511 - y, x)
    region = Region(511 - FACE.y_px, FACE.x_px, FACE.side_px, FACE.angle_rad + np.pi / 2)
    after = network.read(turned, region).points
    np.testing.assert_allclose(after[:, 0], 511 - before[:, 1], atol=0.3)
    np.testing.assert_allclose(after[:, 1], before[:, 0], atol=0.3)


def test_landmarks_grow_with_the_picture(network: LandmarkNetwork) -> None:
    before = network.read(astronaut(), FACE).points
    large = np.asarray(cv2.resize(astronaut(), (1024, 1024), interpolation=cv2.INTER_LINEAR), np.uint8)
    region = Region(FACE.x_px * 2 + 0.5, FACE.y_px * 2 + 0.5, FACE.side_px * 2, FACE.angle_rad)
    after = network.read(large, region).points
    away = np.linalg.norm(after[:, :2] - (before[:, :2] * 2 + 0.5), axis=1)
    assert away.mean() < 0.6
    np.testing.assert_allclose(after[:, 2], before[:, 2] * 2, atol=2.5)


def test_region_of_landmarks() -> None:
    points = np.zeros((478, 3), np.float32)
    points[0] = (10, 20, 5)
    points[1:] = (50, 40, 0)
    points[33], points[263] = (20, 25, 0), (30, 35, 0)
    region = Landmarks(points, 1.0).region()
    assert (region.x_px, region.y_px, region.side_px) == (30, 30, 60)
    assert region.angle_rad == pytest.approx(np.pi / 4)
