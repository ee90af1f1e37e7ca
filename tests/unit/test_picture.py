import math

import numpy as np
import pytest

from engine.arrays import U8
from engine.face.detector import Region
from engine.face.picture import FramePicture, RgbPicture
from engine.face.track import to_rgb
from engine.face.tracker import VERIFY_FRAMES, FaceTracker
from engine.image.yuv import I420, Colour, rgb_to_i420, sparse_to_rgb
from tests.support.data import faces_picture, model_file

BT709 = Colour("bt709", full_range=False)
SIZES = [(1, 1), (1, 3), (5, 4), (37, 66), (145, 259), (360, 480)]


def noise(height: int, width: int, seed: int = 0) -> I420:
    random = np.random.default_rng(seed)
    small = ((height + 1) // 2, (width + 1) // 2)
    return I420(
        *(random.integers(0, 256, shape, dtype=np.uint8) for shape in ((height, width), small, small))
    )


def scratch(image: I420) -> U8:
    return np.random.default_rng(9).integers(0, 256, (image.height, image.width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("steps", [(1, 1), (2, 3), (5, 4), (10, 10)])
@pytest.mark.parametrize("colour", [BT709, Colour("bt601", full_range=True)])
def test_sparse_pixels_are_those_of_the_whole(
    size: tuple[int, int], steps: tuple[int, int], colour: Colour
) -> None:
    image = noise(*size)
    want = to_rgb(image, colour)[steps[0] // 2 :: steps[0], steps[1] // 2 :: steps[1]]
    np.testing.assert_array_equal(sparse_to_rgb(image, *steps, colour), want)


@pytest.mark.parametrize("size", SIZES)
def test_thumbnail_and_whole_are_the_converted_frames(size: tuple[int, int]) -> None:
    image = noise(*size)
    frame, rgb = FramePicture(image, BT709, scratch(image)), RgbPicture(to_rgb(image, BT709))
    np.testing.assert_array_equal(frame.thumbnail(), rgb.thumbnail())
    assert frame.thumbnail().shape == (36, 64, 3)
    np.testing.assert_array_equal(frame.whole(), rgb.whole())
    assert frame.around(Region(0, 0, 2, 0)) is frame.whole()


@pytest.mark.parametrize("angle", [0.0, 0.3, -0.8, math.pi / 2, 3.0])
@pytest.mark.parametrize("place", [(240, 180, 130), (5, 350, 150), (240, 180, 900), (-300, 100, 90)])
def test_what_is_cut_out_of_a_region_is_the_same(angle: float, place: tuple[int, int, int]) -> None:
    image, region = noise(360, 480), Region(*place, angle)
    frame, rgb = FramePicture(image, BT709, scratch(image)), to_rgb(image, BT709)
    np.testing.assert_array_equal(
        region.crop(frame.around(region), 256), region.crop(RgbPicture(rgb).around(region), 256)
    )


def test_a_rehearsal_leaves_no_trace() -> None:
    tracker, image = FaceTracker(model_file("face_landmarker")), noise(360, 480)
    before = tracker.state
    tracker.rehearse(image, BT709, Region(240, 180, 200, 0.1))
    assert tracker.state is before


def test_frames_are_tracked_as_their_pictures_to_the_bit() -> None:
    """Through finding, following, a verification, a loss and a cut."""
    models = model_file("face_landmarker").read_bytes()
    by_frame, by_rgb = FaceTracker(models), FaceTracker(models)
    shown = [
        faces_picture((150 + 3 * i, 180, 1.2, False), width=480, height=360) for i in range(VERIFY_FRAMES + 7)
    ]
    shown += [faces_picture(width=480, height=360)] * 2 + [255 - shown[0]] * 2 + [shown[0]] * 2
    found = 0
    for rgb in shown:
        image = rgb_to_i420(rgb, BT709)
        one, other = by_frame.step_frame(image, BT709), by_rgb.step(to_rgb(image, BT709))
        assert (one is None) == (other is None)
        assert by_frame.cut == by_rgb.cut
        if one is not None and other is not None:
            found += 1
            np.testing.assert_array_equal(one.landmarks, other.landmarks)
            assert (one.confidence, one.region) == (other.confidence, other.region)
    assert found > VERIFY_FRAMES
