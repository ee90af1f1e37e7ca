import numpy as np
import pytest

from engine.arrays import F32, U8
from engine.composite.blend import STRONGEST, border_window, match_colour, paste
from engine.image.resize import Square, read_square
from engine.image.yuv import I420, Colour, rgb_to_i420
from engine.render.mask import soft_mask
from tests.support.data import astronaut

BT709 = Colour("bt709", full_range=False)
SIZE = 96
FACE = Square(160, 60, 2 * SIZE)
NO_ALPHA: F32 = np.zeros((SIZE, SIZE), np.float32)


def frame() -> I420:
    return rgb_to_i420(astronaut()[:361, :401], BT709)  # odd sizes


def disc() -> F32:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    corners = (SIZE / 2 + 0.36 * SIZE * np.stack([np.cos(angle), np.sin(angle)], -1)).astype(np.float32)
    return soft_mask(corners, 2.0, 9.0, SIZE, SIZE)


def face() -> U8:
    crop = read_square(frame(), FACE, BT709, SIZE)
    assert crop is not None
    return crop


@pytest.mark.parametrize("square", [Square(402, 0, 64), Square(-64, 0, 64), Square(0, 400, 64)])
def test_outside_the_picture_there_is_nothing(square: Square) -> None:
    image = frame()
    assert read_square(image, square, BT709, SIZE) is None
    paste(image, square, BT709, face(), np.ones((SIZE, SIZE), np.float32))
    np.testing.assert_array_equal(image.y, frame().y)


def test_identical_pictures_stay_as_they_are() -> None:
    np.testing.assert_array_equal(match_colour(face(), face(), disc(), NO_ALPHA), face())


@pytest.mark.parametrize("offset", [(12, 12, 12), (-15, 0, 10)])
def test_constant_offset_is_taken_away(offset: tuple[int, int, int]) -> None:
    source = np.clip(face(), 40, 200)
    rendered = np.clip(source.astype(int) - offset, 0, 255).astype(np.uint8)
    matched = match_colour(rendered, source, disc(), NO_ALPHA)
    inside = disc() > 0
    assert np.abs(matched[inside].astype(int) - source[inside]).max() <= 1


def test_gradient_of_light_is_taken_away() -> None:
    source = np.clip(face(), 40, 200)
    light = np.linspace(-14, 14, SIZE)[None, :, None]
    rendered = np.rint(source - light).astype(np.uint8)
    inside = disc() > 0
    before = np.abs(rendered[inside].astype(int) - source[inside]).mean()
    after = np.abs(
        match_colour(rendered, source, disc(), NO_ALPHA)[inside].astype(int) - source[inside]
    ).mean()
    assert after < 0.5 * before


def test_another_object_is_not_light() -> None:
    rendered = np.full((SIZE, SIZE, 3), 100, np.uint8)
    matched = match_colour(rendered, np.full_like(rendered, 255), disc(), NO_ALPHA)
    assert matched.max() <= 100 + STRONGEST


def test_what_is_inside_the_mask_does_not_count() -> None:
    source, rendered = face(), face()
    rendered[SIZE // 2 - 8 : SIZE // 2 + 8, SIZE // 2 - 8 : SIZE // 2 + 8] = 255
    np.testing.assert_array_equal(match_colour(rendered, source, disc(), NO_ALPHA), rendered)


def test_where_the_source_is_hidden_it_is_not_compared() -> None:
    """A chin that is elsewhere in the source must not become light."""
    source = np.clip(face(), 40, 200)
    lower = np.zeros((SIZE, SIZE), np.float32)
    lower[SIZE // 2 :] = 1
    other = np.where(lower[..., None] > 0, 250, source).astype(np.uint8)
    np.testing.assert_array_equal(match_colour(source, other, disc(), lower), source)
    assert (match_colour(source, other, disc(), NO_ALPHA) != source).any()


@pytest.mark.parametrize("mask", [np.zeros((SIZE, SIZE), np.float32), np.ones((SIZE, SIZE), np.float32)])
def test_without_a_ring_nothing_is_matched(mask: F32) -> None:
    rendered = np.full((SIZE, SIZE, 3), 90, np.uint8)
    np.testing.assert_array_equal(match_colour(rendered, face(), mask, NO_ALPHA), rendered)


@pytest.mark.parametrize("square", [FACE, Square(-60, -40, 192), Square(300, 260, 192)])
def test_paste_touches_only_the_mask(square: Square) -> None:
    image, before, mask = frame(), frame(), disc()
    paste(image, square, BT709, np.full((SIZE, SIZE, 3), 255, np.uint8), mask)
    changed = np.argwhere(image.y != before.y)
    assert len(changed)
    scale = SIZE / square.side_px
    centres = (changed + 0.5 - [square.y, square.x]) * scale
    reach = np.linalg.norm(centres - SIZE / 2, axis=1).max()
    assert reach < 0.36 * SIZE + 2 + 1.5
    outside = np.ones(before.y.shape, bool)
    top, left = max(square.y, 0), max(square.x, 0)
    outside[top : square.y + square.side_px, left : square.x + square.side_px] = False
    np.testing.assert_array_equal(image.y[outside], before.y[outside])


def test_window_ends_every_mask_at_the_crops_edge() -> None:
    window = border_window(SIZE)
    assert not window[[0, -1]].any()
    assert not window[:, [0, -1]].any()
    assert (window[8:-8, 8:-8] == 1).all()
    assert np.abs(np.diff(window)).max() < 0.2, "no step"
    with pytest.raises(ValueError, match="read-only"):
        window[0] = 1


def test_mask_of_zero_keeps_every_byte() -> None:
    image, before = frame(), frame()
    paste(image, FACE, BT709, np.full((SIZE, SIZE, 3), 255, np.uint8), np.zeros((SIZE, SIZE), np.float32))
    for plane in ("y", "u", "v"):
        np.testing.assert_array_equal(getattr(image, plane), getattr(before, plane))


def test_full_mask_shows_the_crop() -> None:
    image = frame()
    paste(
        image,
        FACE,
        BT709,
        np.full((SIZE, SIZE, 3), [200, 40, 90], np.uint8),
        np.ones((SIZE, SIZE), np.float32),
    )
    again = read_square(image, FACE, BT709, SIZE)
    assert again is not None
    assert np.abs(again[1:-1, 1:-1].astype(int) - [200, 40, 90]).max() <= 3
