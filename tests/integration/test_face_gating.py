"""Tracking and gating together, on a real face: what hides it, who is beside it, what must not matter."""

import cv2
import numpy as np
import pytest

from engine.arrays import F32, U8
from engine.dubber import DubbedFrame, Dubber
from engine.face.crop import crop_pose, follow
from engine.face.fit import Fitter, person_neutral
from engine.face.landmarks import COUNT
from engine.face.model import LIPS, load_face_model
from engine.face.occlusion import CoverWatch
from engine.face.track import to_rgb
from engine.face.tracker import VERIFY_FRAMES, FaceTracker
from engine.image.resize import read_square
from engine.image.yuv import Colour, rgb_to_i420
from engine.media import open_video
from engine.painting import Painter, open_painter
from tests.support.data import data_file, faces_picture, model_file
from tests.support.toy_actor import toy_actor
from tests.support.voice import voice

WIDTH, HEIGHT, RATE_HZ = 480, 360, 25
BT709 = Colour("bt709", full_range=False)
ACTOR = toy_actor()
HERE = (160, 180, 1.3, False)
CALM_FRAMES, FOOTAGE_FRAMES = 12, 60


@pytest.fixture(scope="module")
def painter() -> Painter:
    model_file("face_landmarker")
    return open_painter(ACTOR)


class Camera:
    """What a camera sees, tracked and dubbed frame by frame."""

    def __init__(self, painter: Painter) -> None:
        self.tracker, self.count = FaceTracker(), 0
        self.dubber = Dubber(ACTOR, painter, BT709, look_ahead_ms=0)
        self.dubber.push_audio(voice(3.0))
        self.changed: U8 = np.zeros((HEIGHT, WIDTH), np.uint8)

    def sees(self, rgb: U8) -> DubbedFrame:
        """The next frame."""
        noise = np.random.default_rng(self.count).integers(-3, 4, rgb.shape)
        image = rgb_to_i420(np.clip(rgb.astype(int) + noise, 0, 255).astype(np.uint8), BT709)
        before = image.y.copy()
        self.count += 1
        found = self.tracker.step(to_rgb(image, BT709))
        points: F32 = np.full((COUNT, 3), np.nan, np.float32) if found is None else found.landmarks
        confidence = 0.0 if found is None else found.confidence
        self.dubber.push_video(image, self.count / RATE_HZ, points, confidence, cut=self.tracker.cut)
        frame = self.dubber.step()
        assert frame is not None
        self.changed = np.asarray(frame.image.y != before, np.uint8)
        return frame


def room(*faces: tuple[int, int, float, bool]) -> U8:
    return faces_picture(*faces, width=WIDTH, height=HEIGHT)


@pytest.mark.parametrize("colour", [(25, 25, 28), (220, 40, 160)])
def test_a_thing_before_the_mouth_shows_the_source_within_two_frames(
    painter: Painter, colour: tuple[int, int, int]
) -> None:
    camera = Camera(painter)
    for _ in range(CALM_FRAMES):
        assert camera.sees(room(HERE)).level > 0
    covered = np.asarray(cv2.circle(room(HERE), (160, 210), 26, colour, -1), np.uint8)
    levels = [camera.sees(covered).level for _ in range(6)]
    assert levels[2:] == [0] * 4
    assert levels[1] <= 0.5
    assert camera.changed.sum() == 0
    assert [camera.sees(room(HERE)).level for _ in range(8)][-1] == 1


def test_somebody_beside_or_behind_is_never_drawn_on(painter: Painter) -> None:
    """Another, smaller face comes, and stays when the first one leaves: it is not the first one's place."""
    camera, here, other = Camera(painter), (200, 250, 0.9, False), (700, 250, 0.7, True)
    for faces in (6 * [(here,)], VERIFY_FRAMES * [(here, other)]):
        for both in faces:
            frame = camera.sees(faces_picture(*both, width=960, height=540))
            assert camera.changed[:, 500:].sum() == 0
    assert frame.level == 1
    for index in range(8):
        frame = camera.sees(faces_picture(other, width=960, height=540))
        assert not camera.tracker.cut
        assert camera.changed[:, 500:].sum() == 0
        if index > 0:
            assert frame.level == 0
            assert camera.changed.sum() == 0


def test_a_face_that_leaves_shows_the_source_at_once(painter: Painter) -> None:
    camera = Camera(painter)
    for _ in range(8):
        camera.sees(room(HERE))
    for x in (100, 40, -20, -80):
        frame = camera.sees(shifted(room(HERE), x - 160))
    frame = camera.sees(room())
    assert (frame.shown, frame.level) == ("no face", 0)
    assert camera.changed.sum() == 0


def shifted(rgb: U8, x_px: int) -> U8:
    moved = np.full_like(rgb, 96)
    moved[:, : x_px if x_px < 0 else None] = rgb[:, -x_px if x_px < 0 else 0 :]
    return moved


@pytest.mark.parametrize("name", ["clips/rs_s2.mp4", "clips/tv_male_1.mp4"])
def test_footage_is_not_covered_until_something_is_there(name: str) -> None:
    """Frames of real talking people, then with a disc over most of the mouth."""
    model_file("face_landmarker")
    tracker, model, seen = FaceTracker(), load_face_model(), []
    with open_video(data_file(name)) as video:
        for _, frame in zip(range(FOOTAGE_FRAMES), video, strict=False):
            found = tracker.step(to_rgb(frame.image, video.info.colour))
            assert found is not None
            seen.append((frame.image.copy(), found.landmarks))
        colour = video.info.colour
    neutral = person_neutral(model, np.stack([points for _, points in seen]))
    fitter, watch, box = Fitter(model, neutral), CoverWatch(model, model.extend(neutral)), None
    covered = []
    for index, (image, points) in enumerate(seen):
        state = fitter.fit(points)
        box = follow(box, state.pose)
        crop = read_square(image, box.square, colour, 224)
        assert crop is not None
        pose = crop_pose(state.pose, box.square, 224)
        if index >= FOOTAGE_FRAMES - 5:
            mouth = model.vertices(model.extend(neutral), state.expression, pose)[list(LIPS), :2].mean(0)
            cv2.circle(crop, (int(mouth[0]), int(mouth[1])), 28, (70, 90, 60), -1)
        watch.look(crop, pose, state)
        covered.append(watch.covered)
    assert not any(covered[: FOOTAGE_FRAMES - 5])
    assert all(covered[FOOTAGE_FRAMES - 4 :])
