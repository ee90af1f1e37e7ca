"""What a stream that must save work shows: less of the dub, old mouths on new heads, or nothing."""

from dataclasses import replace

import numpy as np
import pytest

from engine.actor.pack import ActorPack
from engine.dubber import DubbedFrame, Dubber
from engine.face.model import Pose
from engine.image.resize import Square, read_square
from engine.image.yuv import I420, Colour
from engine.painting import CpuPainter, Painter, open_painter
from engine.render.again import moved, turned_little
from engine.render.renderer import Rendered, open_renderer
from tests.support.toy_actor import crop_head, landmarks, opened, pose, toy_actor
from tests.support.voice import voice

WIDTH, HEIGHT, RATE_HZ, FRAMES = 480, 360, 25, 10
BT709, BT601 = Colour("bt709", full_range=False), Colour("bt601", full_range=True)
ACTOR = toy_actor("random")


@pytest.fixture(scope="module")
def painter() -> Painter:
    return open_painter(ACTOR)


def make(painter: Painter, actor: ActorPack = ACTOR) -> Dubber:
    dubber = Dubber(actor, painter, BT709, look_ahead_ms=120, keep_debug=True)
    dubber.push_audio(voice(1.0))
    return dubber


def head(index: int, turn_deg: float = 0.5) -> Pose:
    return pose(scale_px=14, yaw_deg=turn_deg * index, x_px=240 + 3 * index, y_px=150 + index)


def push(dubber: Dubber, index: int, head: Pose, **how: object) -> I420:
    image = I420.blank(WIDTH, HEIGHT)
    image.y[:] = np.random.default_rng(index).integers(100, 140, image.y.shape)
    before = image.copy()
    dubber.push_video(image, index / RATE_HZ, landmarks(head, opened(0.3)), **how)  # type: ignore[arg-type]
    return before


def film(dubber: Dubber, *, half: bool, turn_deg: float = 0.5) -> list[DubbedFrame]:
    out = []
    for index in range(FRAMES):
        push(dubber, index, head(index, turn_deg))
        frame = dubber.step(half=half)
        assert frame is not None
        out.append(frame)
    return out


def expressions(frames: list[DubbedFrame]) -> list[bytes]:
    return [frame.debug.expression.tobytes() for frame in frames if frame.debug]


def test_half_rate_shows_every_mouth_twice(painter: Painter) -> None:
    full, half = (expressions(film(make(painter), half=half)) for half in (False, True))
    assert len(full) == len(half) == FRAMES
    assert half == [full[index - index % 2] for index in range(FRAMES)]


def test_an_old_mouth_is_where_the_new_one_would_be() -> None:
    """Against the same expression drawn for the new head, by an actor whose texture is smooth."""
    ramp = np.linspace(-0.8, 0.8, 64)
    texture = np.stack([*np.meshgrid(ramp, ramp)] * 8).astype(np.float16)
    actor = replace(toy_actor("zero"), texture=texture)
    smooth = open_renderer(actor)
    for one in film(make(CpuPainter(smooth), actor), half=True)[3::2]:
        assert one.debug is not None
        fresh = Rendered.empty(smooth.size_px)
        smooth.render(one.debug.source, one.debug.pose, one.debug.expression, out=fresh)
        shows = fresh.mask > 0.5
        assert shows.sum() > 1000
        away = np.abs(one.debug.rendered[shows].astype(int) - fresh.rgb[shows]).mean()
        spread = np.abs(fresh.rgb[shows] - fresh.rgb[shows].mean(0)).mean()
        assert away < 0.2 * spread


def test_a_head_that_turns_quickly_gets_a_mouth_of_its_own(painter: Painter) -> None:
    full, half = (expressions(film(make(painter), half=half, turn_deg=6)) for half in (False, True))
    assert half == full


def test_a_cut_ends_what_was_drawn(painter: Painter) -> None:
    dubber = make(painter)
    push(dubber, 0, head(0))
    push(dubber, 1, head(1), cut=True)
    first, second = dubber.step(half=True), dubber.step(half=True)
    assert first is not None
    assert second is not None
    assert len(set(expressions([first, second]))) == 2


def test_gain_scales_what_shows_and_at_zero_nothing_is_drawn(painter: Painter) -> None:
    levels = []
    for gain in (1.0, 0.5, 0.0):
        dubber = make(painter)
        for index in range(5):
            before = push(dubber, index, head(index))
            frame = dubber.step(gain=gain)
        assert frame is not None
        levels.append(frame.level)
        assert np.array_equal(frame.image.y, before.y) == (gain == 0)
    assert levels == [1.0, 0.5, 0.0]


def test_dropped_video_is_forgotten_and_the_sound_goes_on(painter: Painter) -> None:
    dubber = make(painter)
    for index in range(4):
        push(dubber, index, head(index))
        if index < 2:
            dubber.step()
    dubber.drop_video(4 / RATE_HZ)
    assert dubber.step() is None
    push(dubber, 5, head(5))
    frame = dubber.step()
    assert frame is not None
    assert frame.level == 0.25, "the face fades in as a new one"
    assert frame.debug is not None
    assert expressions([frame]) == [expressions(film(make(painter), half=False))[5]]


def test_a_frames_own_colour_is_used(painter: Painter) -> None:
    dubber = make(painter)
    push(dubber, 0, head(0), colour=BT601)
    frame = dubber.step()
    assert frame is not None
    assert frame.debug is not None
    plain = I420.blank(WIDTH, HEIGHT)
    plain.y[:] = 128
    reads = [read_square(plain, Square(0, 0, 64), colour, 64) for colour in (BT601, BT709)]
    assert reads[0] is not None
    assert reads[1] is not None
    grey = float(frame.debug.source.mean())
    assert abs(grey - reads[0].mean() * 120 / 128) < abs(grey - reads[1].mean() * 120 / 128)


def test_moved_follows_a_shift_and_a_size() -> None:
    drawn = Rendered.empty(224)
    drawn.alpha[100:120, 90:130] = 1
    drawn.rgb[100:120, 90:130] = 200
    before = crop_head()
    after = Pose(before.scale_px, before.rotation, before.translation_px + np.array([6, -4, 0]))
    got = moved(drawn, before, after)
    np.testing.assert_allclose(got.alpha[96:116, 96:136], 1, atol=0.02)
    assert got.alpha.sum() == pytest.approx(drawn.alpha.sum(), rel=0.01)
    assert turned_little(before, after)
    assert not turned_little(before, Pose(1.2 * before.scale_px, before.rotation, before.translation_px))
    assert not turned_little(before, crop_head(yaw_deg=8))
