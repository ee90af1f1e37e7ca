"""The border is found again from the reference's track alone, and whole frames lead to the same score."""

import cv2
import numpy as np
import pytest

from engine.arrays import F32, U8
from engine.errors import NoFaceError
from export import border
from export.border import Border
from export.metrics import LOWER_FACE
from tests.support import data


@pytest.fixture(scope="module")
def face() -> F32:
    from engine.face.tracker import FaceTracker

    data.model_file("face_landmarker")
    found = FaceTracker().step(data.astronaut())
    assert found is not None
    return found.landmarks


def darker(picture: U8, face: F32, size: float, levels: int) -> U8:
    """The lower face, made smaller or larger around its middle, darker than it was, with a hard edge."""
    points = face[LOWER_FACE, :2]
    middle = points.mean(0)
    hull = cv2.convexHull(np.rint(middle + size * (points - middle)).astype(np.int32))
    inside = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillConvexPoly(inside, hull, 1)
    changed = picture.astype(np.int16)
    changed[inside > 0] -= levels
    return np.asarray(np.clip(changed, 0, 255), np.uint8)


def test_a_picture_beside_itself_has_no_seam(face: F32) -> None:
    watch = Border(face[None])
    watch.add(data.astronaut(), data.astronaut(), face, joined=False)
    watch.add(data.astronaut(), data.astronaut(), face, joined=True)
    score = watch.result()
    assert score is not None
    assert score.within_source
    assert (score.step_ratio, score.flicker, score.flicker_source) == (1.0, 0.0, 0.0)


def test_what_changes_well_inside_is_no_seam_and_what_ends_at_the_border_is(face: F32) -> None:
    scores = []
    for size in (0.3, 1.0):
        watch = Border(face[None])
        watch.add(darker(data.astronaut(), face, size, 12), data.astronaut(), face, joined=False)
        score = watch.result()
        assert score is not None
        scores.append(score)
    assert scores[0].step_error < 0.5
    assert scores[1].step_error > 2.0


def test_flicker_needs_frames_that_follow_each_other(face: F32) -> None:
    flickers = []
    for joined in (True, False):
        watch = Border(face[None])
        for t in range(4):
            out = darker(data.astronaut(), face, 1.2, 6 * (t % 2))
            watch.add(out, data.astronaut(), face, joined=joined and t > 0)
        score = watch.result()
        assert score is not None
        flickers.append(score.flicker)
    assert flickers[0] > 1.0
    assert flickers[1] == 0.0


def test_a_face_at_the_picture_s_edge(face: F32) -> None:
    picture = np.ascontiguousarray(data.astronaut()[:150, 190:])
    moved = face - np.array([190, 0, 0], np.float32)
    watch = Border(moved[None])
    watch.add(picture, picture, moved, joined=False)
    score = watch.result()
    assert score is None or score.within_source


def test_no_face_is_refused_and_no_frame_has_no_score(face: F32) -> None:
    with pytest.raises(NoFaceError):
        Border(np.full((2, 478, 3), np.nan, np.float32))
    assert Border(face[None]).result() is None
    far = face + np.array([4000, 0, 0], np.float32)
    watch = Border(far[None])
    watch.add(data.astronaut(), data.astronaut(), far, joined=False)
    assert watch.result() is None
    assert border.SIZE_PX == 256
