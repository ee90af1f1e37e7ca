"""When a stream shows the dub and when the source: hidden mouths, turned heads, people who come and go."""

import numpy as np
import pytest

from engine.dubber import DubbedFrame, Dubber
from engine.face.presence import YAW_LIMIT, YAW_RETURN
from engine.image.yuv import I420, Colour, rgb_to_i420
from engine.painting import Painter, open_painter
from tests.support.painted_face import hidden, picture
from tests.support.toy_actor import landmarks, opened, pose, toy_actor
from tests.support.voice import voice

WIDTH, HEIGHT, RATE_HZ = 320, 240, 25
BT709 = Colour("bt709", full_range=False)
ACTOR = toy_actor()
NO_FACE = np.full((478, 3), np.nan, np.float32)


@pytest.fixture(scope="module")
def painter() -> Painter:
    return open_painter(ACTOR)


class Stream:
    """A painted person's frames, one after the other."""

    def __init__(self, painter: Painter, *, tracked: bool = False) -> None:
        self.dubber = Dubber(ACTOR, painter, BT709, look_ahead_ms=0, tracked=tracked)
        self.dubber.push_audio(voice(4.0))
        self.count, self.before = 0, I420.blank(WIDTH, HEIGHT)

    def next(
        self, *, yaw_deg: float = 0.0, colour: tuple[int, int, int] | None = None, gone: bool = False
    ) -> DubbedFrame:
        head = pose(scale_px=10, yaw_deg=yaw_deg, x_px=160 + self.count % 4, y_px=90)
        opening = float(1 + np.sin(self.count))
        rgb = picture(head, opening, seed=self.count, width=WIDTH, height=HEIGHT)
        if colour is not None:
            rgb = hidden(rgb, head, colour)
        image = rgb_to_i420(rgb, BT709)
        self.before = image.copy()
        points = NO_FACE if gone else landmarks(head, opened(opening))
        self.dubber.push_video(image, (self.count + 1) / RATE_HZ, points)
        self.count += 1
        frame = self.dubber.step()
        assert frame is not None
        return frame

    def is_source(self, frame: DubbedFrame) -> bool:
        planes = ("y", "u", "v")
        return all(np.array_equal(getattr(frame.image, p), getattr(self.before, p)) for p in planes)


@pytest.mark.parametrize("tracked", [False, True])
def test_a_hidden_mouth_shows_the_source_within_two_frames_and_returns(
    painter: Painter, tracked: bool
) -> None:
    stream = Stream(painter, tracked=tracked)
    assert [stream.next().level for _ in range(12)][4:] == [1.0] * 8
    first, second, third = (stream.next(colour=(40, 40, 40)) for _ in range(3))
    assert [first.shown, second.shown, third.shown] == ["fading", "covered", "covered"]
    assert [first.level, second.level, third.level] == [0.5, 0, 0]
    assert stream.is_source(third)
    assert [stream.next().level for _ in range(7)] == [0, 0, 0.25, 0.5, 0.75, 1, 1]


def test_a_mouth_that_speaks_is_never_taken_for_hidden(painter: Painter) -> None:
    stream = Stream(painter)
    assert {stream.next(yaw_deg=20 * np.sin(i / 9)).shown for i in range(80)} == {"fading", "dubbed"}


def test_a_turned_head_shows_the_source_within_two_frames(painter: Painter) -> None:
    stream = Stream(painter)
    for _ in range(6):
        stream.next()
    stream.next(yaw_deg=YAW_LIMIT + 3)
    frame = stream.next(yaw_deg=YAW_LIMIT + 3)
    assert (frame.shown, frame.level) == ("no face", 0)
    assert stream.is_source(frame)


def test_no_flicker_where_a_head_hovers_at_the_limit(painter: Painter) -> None:
    stream = Stream(painter)
    for _ in range(6):
        stream.next()
    middle, spread = (YAW_LIMIT + YAW_RETURN) / 2, 0.45 * (YAW_LIMIT - YAW_RETURN)
    angles = middle + spread * np.random.default_rng(0).uniform(-1, 1, 30)
    assert {stream.next(yaw_deg=float(angle)).level for angle in angles} == {1.0}
    for _ in range(3):
        stream.next(yaw_deg=YAW_LIMIT + 1)
    assert {stream.next(yaw_deg=float(angle)).level for angle in angles} == {0.0}


def test_a_face_that_is_gone_is_not_drawn_and_fades_in_when_it_is_back(painter: Painter) -> None:
    stream = Stream(painter)
    for _ in range(6):
        stream.next()
    frame = stream.next(gone=True)
    assert (frame.shown, frame.level) == ("no face", 0)
    assert stream.is_source(frame)
    assert [stream.next().level for _ in range(4)] == [0.25, 0.5, 0.75, 1]


def test_a_face_that_is_suddenly_elsewhere_fades_in_as_a_new_one(painter: Painter) -> None:
    dubber = Dubber(ACTOR, painter, BT709, tracked=True)
    levels = []
    for index in range(8):
        head = pose(scale_px=6, x_px=90 if index < 5 else 230, y_px=90)
        dubber.push_video(I420.blank(WIDTH, HEIGHT), index / RATE_HZ, landmarks(head))
        frame = dubber.step()
        assert frame is not None
        levels.append(frame.level)
    assert levels == [0.25, 0.5, 0.75, 1, 1, 0.25, 0.5, 0.75]
