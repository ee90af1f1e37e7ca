import sys

import cv2
import numpy as np
import pytest

from engine.backends.litert import LiteRTNetwork
from engine.errors import BackendError, BackendUnavailable
from engine.face.detector import ANCHORS, Detection, FaceDetector, Region, suppress
from engine.face.tracker import read_bundle
from tests.support.data import astronaut, faces_picture, model_file


@pytest.fixture(scope="module")
def network() -> LiteRTNetwork:
    return LiteRTNetwork(read_bundle(model_file("face_landmarker"))[0], label="face detector")


@pytest.fixture(scope="module")
def detector(network: LiteRTNetwork) -> FaceDetector:
    return FaceDetector(network)


def box(x: float, y: float, side: float, score: float) -> Detection:
    return Detection(x, y, side, side, 0.0, score)


def test_one_face_is_found_where_it_is(detector: FaceDetector) -> None:
    (found,) = detector.detect(astronaut())
    assert abs(found.x_px - 225) < 10
    assert abs(found.y_px - 124) < 15
    assert 70 < found.width_px < 130
    assert found.score > 0.8
    assert abs(found.angle_rad) < 0.3


def test_all_faces_are_found_once_in_px_of_the_picture(detector: FaceDetector) -> None:
    faces = [(300, 330, 1.5, False), (640, 330, 1.0, True), (1000, 330, 1.3, True)]
    found = sorted(detector.detect(faces_picture(*faces)), key=lambda one: one.x_px)
    assert len(found) == 3
    for one, (x, y, scale, _) in zip(found, faces, strict=True):
        assert abs(one.x_px - x) < 15 * scale
        assert abs(one.y_px - y) < 15 * scale
        assert 70 * scale < one.width_px < 130 * scale


def test_tall_pictures_are_searched_too(detector: FaceDetector) -> None:
    picture = faces_picture((360, 250, 1.0, False), (360, 1000, 1.2, True), width=720, height=1280)
    found = sorted(detector.detect(picture), key=lambda one: one.y_px)
    assert [round(one.y_px / 50) * 50 for one in found] == [250, 1000]


def test_nothing_is_found_in_noise(detector: FaceDetector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    assert detector.detect(noise) == []
    assert detector.detect(np.zeros((480, 640, 3), np.uint8)) == []
    assert detector.detect(np.zeros((1, 1, 3), np.uint8)) == []


def test_tilted_face_has_its_angle(detector: FaceDetector) -> None:
    turn = cv2.getRotationMatrix2D((225, 124), -30, 1)  # clockwise as seen
    picture = np.asarray(cv2.warpAffine(astronaut(), turn, (512, 512)), np.uint8)
    (found,) = detector.detect(picture)
    assert 0.3 < found.angle_rad < 0.8


def test_other_types_are_refused(detector: FaceDetector) -> None:
    with pytest.raises(TypeError):
        detector.detect(np.zeros((64, 64, 3), np.float32))
    with pytest.raises(ValueError, match="rgb"):
        detector.detect(np.zeros((64, 64), np.uint8))


def test_confirm_wants_a_face_of_that_place_and_size(detector: FaceDetector) -> None:
    picture = faces_picture((400, 360, 1.5, False))
    assert detector.confirm(picture, Region(400, 360, 240, 0.05))
    assert not detector.confirm(picture, Region(900, 360, 240, 0.05))
    assert not detector.confirm(picture, Region(400, 360, 900, 0.05))
    assert not detector.confirm(picture, Region(400 + 150, 360, 240, 0.05))


def test_suppression_keeps_the_best_of_each_face() -> None:
    faces = [box(10, 10, 10, 0.6), box(11, 10, 10, 0.9), box(40, 10, 10, 0.7), box(40, 12, 11, 0.5)]
    assert suppress(faces) == [faces[1], faces[2]]
    assert suppress([]) == []


def test_region_maps_its_corners() -> None:
    region = Region(50, 40, 20, np.pi / 2)
    to_image = region.to_image(128)
    assert to_image @ [64, 64, 1] == pytest.approx([50, 40], abs=1e-4)
    assert to_image @ [128, 64, 1] == pytest.approx([50, 50], abs=1e-4)  # right of the cut-out is down
    assert to_image @ [64, 0, 1] == pytest.approx([60, 40], abs=1e-4)


def test_crop_is_black_outside_the_picture() -> None:
    crop = Region(0, 0, 64, 0.0).crop(np.full((64, 64, 3), 200, np.uint8), 64)
    assert crop.shape == (64, 64, 3)
    assert crop[:30].max() == 0
    assert crop[34:, 34:].min() == 200


def test_anchors_are_cell_centres() -> None:
    assert ANCHORS.shape == (896, 2)
    assert ANCHORS[:3].tolist() == [[1 / 32, 1 / 32], [1 / 32, 1 / 32], [3 / 32, 1 / 32]]
    assert ANCHORS[-1].tolist() == [15 / 16, 15 / 16]


def test_network_says_what_it_takes(network: LiteRTNetwork) -> None:
    assert {name: spec.shape for name, spec in network.inputs.items()} == {"input": (1, 128, 128, 3)}
    assert {name: spec.shape for name, spec in network.outputs.items()} == {
        "regressors": (1, 896, 16),
        "classificators": (1, 896, 1),
    }
    with pytest.raises(ValueError, match="input"):
        network.run({"x": np.zeros((1, 128, 128, 3), np.float32)})
    with pytest.raises(ValueError, match="float64"):
        network.run({"input": np.zeros((1, 128, 128, 3))})
    with pytest.raises(ValueError, match="128"):
        network.run({"input": np.zeros((1, 64, 64, 3), np.float32)})


def test_network_is_deterministic_and_gives_its_outputs_away(network: LiteRTNetwork) -> None:
    x = np.random.default_rng(1).standard_normal((1, 128, 128, 3)).astype(np.float32)
    first = network.run({"input": x})
    kept = {name: array.copy() for name, array in first.items()}
    network.run({"input": np.zeros_like(x)})
    again = network.run({"input": x})
    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)
        np.testing.assert_array_equal(again[name], array)


def test_damaged_network_is_a_backend_error() -> None:
    with pytest.raises(BackendError, match="toy"):
        LiteRTNetwork(b"no network at all" * 10, label="toy")
    with pytest.raises(ValueError, match="threads"):
        LiteRTNetwork(b"", label="toy", threads=0)


def test_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(BackendUnavailable, match="pip install 'ai-edge-litert"):
        LiteRTNetwork(b"", label="toy")


def test_opening_a_network_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    LiteRTNetwork(read_bundle(model_file("face_landmarker"))[0], label="face detector")
    assert capfd.readouterr() == ("", "")
