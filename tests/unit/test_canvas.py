import numpy as np

from engine.arrays import F32, U8
from engine.render.canvas import (
    empty_canvas,
    fill_canvas,
    fill_canvas_reference,
    split_picture,
    split_picture_reference,
)
from engine.render.raster import UvMap

SIZE, CHANNELS = 20, 5
RNG = np.random.default_rng(0)
TEXTURE: F32 = RNG.standard_normal((12, 16, CHANNELS)).astype(np.float32)
REFERENCE: U8 = RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
SOURCE: U8 = RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
MASK: F32 = np.clip(RNG.uniform(-1, 2, (SIZE, SIZE)), 0, 1).astype(np.float32)
UV_MAP = UvMap(
    RNG.uniform(0, 1, (SIZE, SIZE, 2)).astype(np.float32), RNG.integers(-1, 4, (SIZE, SIZE)).astype(np.int8)
)


def filled() -> F32:
    canvas = empty_canvas(TEXTURE, REFERENCE)
    fill_canvas(TEXTURE, UV_MAP, MASK, SOURCE, canvas[0])
    return canvas


def test_fast_is_the_reference() -> None:
    slow = empty_canvas(TEXTURE, REFERENCE)
    fill_canvas_reference(TEXTURE, UV_MAP, MASK, SOURCE, slow[0])
    np.testing.assert_allclose(filled(), slow, atol=2e-5)
    np.testing.assert_array_equal(filled() == 0, slow == 0)


def test_each_channel_has_its_place() -> None:
    canvas = filled()[0]
    assert canvas.shape == (SIZE, SIZE, CHANNELS + 7)
    hidden = (UV_MAP.layer < 0) | (MASK == 0)
    assert not canvas[hidden, :CHANNELS].any()
    assert canvas[~hidden, :CHANNELS].any(axis=1).all()
    np.testing.assert_allclose(canvas[..., CHANNELS + 3 : CHANNELS + 6] * 255, REFERENCE, atol=1e-3)
    np.testing.assert_array_equal(canvas[..., -1], MASK)
    around = canvas[..., CHANNELS : CHANNELS + 3]
    assert not around[MASK == 1].any()
    np.testing.assert_allclose(around[MASK == 0] * 255, SOURCE[MASK == 0], atol=1e-3)


def test_filling_again_leaves_nothing_behind() -> None:
    canvas, once = filled(), filled()
    nothing = UvMap(np.zeros_like(UV_MAP.uv), np.full_like(UV_MAP.layer, -1))
    fill_canvas(TEXTURE, nothing, np.zeros_like(MASK), SOURCE, canvas[0])
    assert not canvas[..., :CHANNELS].any()
    fill_canvas(TEXTURE, UV_MAP, MASK, SOURCE, canvas[0])
    np.testing.assert_array_equal(canvas, once)


def test_picture_and_alpha_are_split() -> None:
    picture = RNG.uniform(0, 1, (SIZE, SIZE, 4)).astype(np.float32)
    rgb, alpha = np.empty((2, SIZE, SIZE, 3), np.uint8), np.empty((2, SIZE, SIZE), np.float32)
    split_picture(picture, MASK, rgb[0], alpha[0])
    split_picture_reference(picture, MASK, rgb[1], alpha[1])
    np.testing.assert_array_equal(rgb[0], rgb[1])
    np.testing.assert_allclose(alpha[0], alpha[1], atol=1e-6)
    np.testing.assert_allclose(rgb[0] / 255, picture[..., :3], atol=0.51 / 255)
    assert not alpha[0][MASK == 0].any()
    np.testing.assert_array_equal(alpha[0][MASK == 1], picture[..., 3][MASK == 1])
