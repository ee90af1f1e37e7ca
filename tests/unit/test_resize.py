import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrays import U8, Array
from engine.image.resize import Square, cut, inside, pad_to, read_square, resize
from engine.image.yuv import I420, Box, Colour, Matrix, rgb_to_i420, roi_to_rgb_reference
from tests.support.data import astronaut


def picture(width: int, height: int) -> U8:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("square", "part"),
    [
        (Square(10, 20, 30), Box(10, 20, 30, 30)),
        (Square(-10, -4, 30), Box(0, 0, 20, 26)),
        (Square(90, 40, 30), Box(90, 40, 10, 10)),
        (Square(-20, -20, 200), Box(0, 0, 100, 50)),
        (Square(100, 10, 30), None),
        (Square(10, -30, 30), None),
        (Square(-30, 0, 30), None),
    ],
)
def test_inside(square: Square, part: Box | None) -> None:
    assert inside(square, 100, 50) == part


@settings(deadline=None, max_examples=50)
@given(
    st.integers(-60, 120), st.integers(-60, 120), st.integers(8, 70), st.integers(1, 90), st.integers(1, 90)
)
def test_padded_part_fills_the_square_with_the_nearest_pixels(
    x: int, y: int, half: int, width: int, height: int
) -> None:
    square, whole = Square(2 * (x // 2), 2 * (y // 2), 2 * half), picture(width, height)
    part = inside(square, width, height)
    if part is None:
        return
    assert part.x % 2 == part.y % 2 == 0
    piece = whole[part.y : part.y + part.height, part.x : part.x + part.width]
    rows = np.clip(square.y + np.arange(square.side_px), 0, height - 1)
    columns = np.clip(square.x + np.arange(square.side_px), 0, width - 1)
    np.testing.assert_array_equal(pad_to(piece, part, square), whole[np.ix_(rows, columns)])


def test_nothing_to_pad_is_no_copy() -> None:
    whole = picture(20, 20)
    assert pad_to(whole, Box(0, 0, 20, 20), Square(0, 0, 20)) is whole
    assert resize(whole, 20) is whole


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [10, 33, 90])
def test_resize_keeps_type_range_and_mean(kind: type[np.uint8 | np.float32], size: int) -> None:
    rows, columns = np.mgrid[0:40, 0:40]
    whole: Array = np.stack([rows * 5, columns * 5, rows + columns], -1).astype(kind)
    out = resize(whole, size)
    assert out.dtype == kind
    assert out.shape == (size, size, 3)
    np.testing.assert_allclose(out.mean((0, 1)), whole.mean((0, 1)), atol=0.8)


def test_cut_resizes_what_it_cuts() -> None:
    whole = picture(100, 50)
    np.testing.assert_array_equal(cut(whole, Square(10, 4, 30), 30), whole[4:34, 10:40])
    flat = np.full((50, 100, 3), 77, np.uint8)
    assert (cut(flat, Square(-20, 30, 60), 16) == 77).all()


def test_cut_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="outside a picture of 100 x 50"):
        cut(picture(100, 50), Square(100, 0, 20), 16)


def frame(matrix: Matrix = "bt709", full_range: bool = False) -> I420:
    return rgb_to_i420(astronaut()[:361, :401], Colour(matrix, full_range))  # odd sizes


SQUARES = [
    Square(160, 60, 192),
    Square(150, 40, 80),
    Square(-60, -40, 192),
    Square(300, 260, 180),
    Square(-20, -20, 480),
    Square(170, 70, 98),
]


@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize(("matrix", "full_range"), [("bt601", True), ("bt709", False), ("bt2020", False)])
def test_square_of_a_frame_is_that_of_its_colours(square: Square, matrix: Matrix, full_range: bool) -> None:
    """Shrinking planes and then computing colours is computing colours and then shrinking."""
    image, colour = frame(matrix, full_range), Colour(matrix, full_range)
    whole = roi_to_rgb_reference(image, Box(0, 0, image.width, image.height), colour)
    got = read_square(image, square, colour, 96)
    assert got is not None
    assert got.dtype == np.uint8
    difference = np.abs(got.astype(int) - cut(whole, square, 96))
    assert difference.mean() < 0.8
    assert np.quantile(difference, 0.99) <= 6


@pytest.mark.parametrize("square", [Square(402, 0, 64), Square(-64, 0, 64), Square(0, 400, 640)])
def test_square_outside_the_frame_is_nothing(square: Square) -> None:
    assert read_square(frame(), square, Colour("bt709", False), 96) is None
