import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrays import F32, U8
from engine.image.yuv import (
    I420,
    Box,
    Colour,
    Matrix,
    from_rgb_affine,
    rgb_to_i420,
    roi_to_rgb,
    roi_to_rgb_reference,
    to_rgb_affine,
    write_roi,
    write_roi_reference,
)
from tests.support.media import planes

MATRICES: tuple[Matrix, ...] = ("bt601", "bt709", "bt2020")
COLOURS = [Colour(matrix, full) for matrix in MATRICES for full in (False, True)]
MAX_SIDE_PX = 40


def noise_image(width: int, height: int, seed: int) -> I420:
    rng = np.random.default_rng(seed)
    chroma = ((height + 1) // 2, (width + 1) // 2)
    return I420(
        rng.integers(0, 256, (height, width), dtype=np.uint8),
        rng.integers(0, 256, chroma, dtype=np.uint8),
        rng.integers(0, 256, chroma, dtype=np.uint8),
    )


def difference(one: U8, other: U8) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@st.composite
def images_and_boxes(draw: st.DrawFn, aligned: bool) -> tuple[I420, Box]:
    sizes, corners, sides = [], [], []
    for _ in range(2):
        size = draw(st.integers(1, MAX_SIDE_PX))
        corner = draw(st.integers(0, size - 1))
        side = draw(st.integers(1, size - corner))
        if aligned:
            corner -= corner % 2
            side += side % 2 if corner + side < size else 0
        sizes.append(size)
        corners.append(corner)
        sides.append(side)
    return noise_image(sizes[0], sizes[1], draw(st.integers(0, 1000))), Box(*corners, *sides)


def random_patch(box: Box, seed: int) -> tuple[U8, F32]:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (box.height, box.width, 3), dtype=np.uint8)
    alpha = rng.uniform(-0.5, 1.5, (box.height, box.width)).astype(np.float32)
    return rgb, alpha


@settings(deadline=None, max_examples=50)
@given(images_and_boxes(aligned=False), st.sampled_from(COLOURS))
def test_reading_equals_the_reference(case: tuple[I420, Box], colour: Colour) -> None:
    image, box = case
    rgb = roi_to_rgb(image, box, colour)
    assert rgb.shape == (box.height, box.width, 3)
    assert difference(rgb, roi_to_rgb_reference(image, box, colour)) <= 1


@settings(deadline=None, max_examples=50)
@given(images_and_boxes(aligned=True), st.sampled_from(COLOURS), st.integers(0, 1000))
def test_writing_equals_the_reference(case: tuple[I420, Box], colour: Colour, seed: int) -> None:
    image, box = case
    rgb, alpha = random_patch(box, seed)
    slow = image.copy()
    write_roi(image, box, rgb, alpha, colour)
    write_roi_reference(slow, box, rgb, alpha, colour)
    for fast_plane, slow_plane in zip(planes(image), planes(slow), strict=True):
        assert difference(fast_plane, slow_plane) <= 1


@pytest.mark.parametrize("write", [write_roi, write_roi_reference])
@settings(deadline=None, max_examples=50)
@given(case=images_and_boxes(aligned=True), colour=st.sampled_from(COLOURS), seed=st.integers(0, 1000))
def test_alpha_zero_keeps_every_byte(write, case: tuple[I420, Box], colour: Colour, seed: int) -> None:  # type: ignore[no-untyped-def]
    image, box = case
    rgb, alpha = random_patch(box, seed)
    alpha[np.random.default_rng(seed).random(alpha.shape) < 0.7] = 0.0
    before = image.copy()
    write(image, box, rgb, alpha, colour)
    changed = np.zeros(image.y.shape, bool)
    changed[box.y : box.y + box.height, box.x : box.x + box.width] = alpha > 0
    assert np.array_equal(image.y[~changed], before.y[~changed])
    for index in (1, 2):
        for j, i in np.ndindex(image.u.shape):
            if not changed[2 * j : 2 * j + 2, 2 * i : 2 * i + 2].any():
                assert planes(image)[index][j, i] == planes(before)[index][j, i]


@pytest.mark.parametrize("colour", COLOURS)
def test_one_colour_comes_back(colour: Colour) -> None:
    # Rounding to steps of 1/255 or 1/219, times the largest coefficient back.
    bound = 1 if colour.full_range else 2
    rng = np.random.default_rng(3)
    for _ in range(300):
        rgb = np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (4, 6, 3))
        back = roi_to_rgb(rgb_to_i420(rgb, colour), Box(0, 0, 6, 4), colour)
        assert difference(back, rgb) <= bound


@pytest.mark.parametrize("colour", COLOURS)
def test_luma_survives_a_round_trip(colour: Colour) -> None:
    """Reading a region and writing it back moves legal bytes by at most the rounding."""
    rows, columns = np.mgrid[0:32, 0:48]
    image = I420(
        (60 + rows + 2 * columns).astype(np.uint8),
        (118 + columns[:16, :24]).astype(np.uint8),
        (138 - rows[:16, :24]).astype(np.uint8),
    )
    before = image.copy()
    box = Box(0, 0, 48, 32)
    write_roi(image, box, roi_to_rgb(image, box, colour), np.ones((32, 48), np.float32), colour)
    assert difference(image.y, before.y) <= 1
    assert difference(image.u, before.u) <= 1
    assert difference(image.v, before.v) <= 1


@pytest.mark.parametrize(
    ("colour", "ycc", "rgb"),
    [
        (Colour("bt601", False), (16, 128, 128), (0, 0, 0)),
        (Colour("bt601", False), (235, 128, 128), (255, 255, 255)),
        (Colour("bt601", False), (81, 90, 240), (255, 0, 0)),
        (Colour("bt709", False), (63, 102, 240), (255, 0, 0)),
        (Colour("bt601", True), (76, 85, 255), (254, 0, 0)),
        (Colour("bt709", True), (182, 30, 12), (0, 255, 0)),
        (Colour("bt2020", False), (74, 97, 240), (255, 0, 0)),
    ],
)
def test_known_colours(colour: Colour, ycc: tuple[int, int, int], rgb: tuple[int, int, int]) -> None:
    """Bytes of the primaries, from the definitions in BT.601, BT.709 and BT.2020."""
    image = I420(*(np.full((1, 1), value, np.uint8) for value in ycc))
    assert difference(roi_to_rgb(image, Box(0, 0, 1, 1), colour)[0, 0], np.array(rgb, np.uint8)) <= 1


@pytest.mark.parametrize("colour", COLOURS)
def test_the_affines_are_what_regions_are_read_with(colour: Colour) -> None:
    ycc = np.array([97, 90, 160])
    there, back = to_rgb_affine(colour), from_rgb_affine(colour)
    image = I420(*(np.full((1, 1), value, np.uint8) for value in ycc))
    rgb = there @ [*ycc, 1]
    assert np.abs(rgb - roi_to_rgb(image, Box(0, 0, 1, 1), colour)[0, 0]).max() <= 0.51
    np.testing.assert_allclose(back @ [*rgb, 1], ycc, atol=1e-9)


def test_opaque_writing_takes_the_colour_whatever_was_there() -> None:
    colour = Colour("bt709", False)
    image = noise_image(8, 6, 1)
    rgb = np.broadcast_to(np.array([200, 30, 60], np.uint8), (6, 8, 3))
    write_roi(image, Box(0, 0, 8, 6), rgb, np.ones((6, 8), np.float32), colour)
    for got, wanted in zip(planes(image), planes(rgb_to_i420(rgb, colour)), strict=True):
        assert np.array_equal(got, wanted)


def test_not_a_number_in_alpha_counts_as_zero() -> None:
    image = noise_image(4, 4, 2)
    before = image.copy()
    rgb = np.zeros((4, 4, 3), np.uint8)
    write_roi(image, Box(0, 0, 4, 4), rgb, np.full((4, 4), np.nan, np.float32), Colour("bt601", True))
    assert np.array_equal(image.y, before.y)


def test_views_can_be_read_and_written() -> None:
    """Planes, patch and alpha need not be contiguous."""
    colour = Colour("bt601", False)
    wide = noise_image(40, 20, 5)
    image = I420(wide.y[:, 8:24], wide.u[:, 4:12], wide.v[:, 4:12])
    box = Box(2, 2, 10, 8)
    rgb, alpha = random_patch(Box(0, 0, 20, 16), 1)
    slow = image.copy()
    write_roi(image, box, rgb[::2, ::2], alpha[::2, ::2], colour)
    write_roi_reference(slow, box, rgb[::2, ::2], alpha[::2, ::2], colour)
    assert difference(image.y, slow.y) <= 1
    assert difference(roi_to_rgb(image, box, colour), roi_to_rgb_reference(image, box, colour)) <= 1


@pytest.mark.parametrize("box", [Box(0, 0, 9, 4), Box(6, 0, 4, 4), Box(0, 7, 1, 1)])
def test_a_box_outside_is_refused(box: Box) -> None:
    with pytest.raises(ValueError, match="leaves the picture of 8x7"):
        roi_to_rgb(noise_image(8, 7, 0), box, COLOURS[0])


@pytest.mark.parametrize("box", [Box(1, 0, 2, 2), Box(0, 1, 2, 2), Box(0, 0, 3, 2), Box(0, 0, 2, 3)])
def test_writing_refuses_a_box_between_chroma_samples(box: Box) -> None:
    rgb, alpha = random_patch(box, 0)
    with pytest.raises(ValueError, match="even"):
        write_roi(noise_image(8, 7, 0), box, rgb, alpha, COLOURS[0])


def test_wrong_arguments_are_named() -> None:
    image, box = noise_image(8, 8, 0), Box(0, 0, 4, 4)
    rgb, alpha = random_patch(box, 0)
    with pytest.raises(ValueError, match="rgb must have shape"):
        write_roi(image, box, rgb[:2], alpha, COLOURS[0])
    with pytest.raises(TypeError, match="alpha must be an array of float32"):
        write_roi(image, box, rgb, alpha.astype(np.float64), COLOURS[0])
    image.y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        write_roi(image, box, rgb, alpha, COLOURS[0])
    with pytest.raises(ValueError, match="u must have shape"):
        I420(np.zeros((5, 5), np.uint8), np.zeros((2, 2), np.uint8), np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match="size > 0"):
        I420.blank(0, 4)
    with pytest.raises(ValueError, match="a box needs"):
        Box(0, -1, 2, 2)


def test_a_copy_is_independent_and_named_by_its_size() -> None:
    image = noise_image(5, 3, 0)
    copy = image.copy()
    copy.y[...] = 0
    assert image.y.any()
    assert (copy.width, copy.height, repr(copy)) == (5, 3, "I420(5x3)")
