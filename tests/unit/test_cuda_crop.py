"""The kernels of crop.cu, compiled for the CPU, against the product's own CPU code."""

import numpy as np
import pytest

from engine.arrays import F32, U8
from engine.backends.cuda.params import cells_of
from engine.composite.bend import bend
from engine.image.resize import Square, read_square
from engine.image.yuv import I420, Colour, rgb_to_i420
from tests.support.data import astronaut
from tests.support.host_frame import GARBAGE, HostFrame
from tests.support.kernel_twins import difference, part_of, planes_of, widened

SIZE = 96
BT709 = Colour("bt709", full_range=False)
COLOURS = [
    BT709,
    Colour("bt709", full_range=True),
    Colour("bt601", full_range=False),
    Colour("bt601", full_range=True),
]
# in a frame of 401 x 361 px: inside; cut on the left, at the top, on the right, at the bottom; both; larger
PLACES = {"inside": (140, 60), "left": (-40, 60), "top": (120, -30), "right": (350, 80), "bottom": (100, 310)}
SIDES = [SIZE - 46, SIZE, SIZE + 2, 150, 2 * SIZE, 250, 3 * SIZE]


def frame(colour: Colour = BT709, width: int = 401, height: int = 361) -> I420:
    return rgb_to_i420(astronaut()[:height, :width], colour)


def noise(width: int, height: int) -> I420:
    random, chroma = np.random.default_rng(1), ((height + 1) // 2, (width + 1) // 2)
    planes = [random.integers(0, 256, shape, dtype=np.uint8) for shape in ((height, width), chroma, chroma)]
    return I420(*planes)


def wave(size_px: int = SIZE, strength_px: float = 5.0) -> F32:
    """A displacement that ends inside the crop."""
    cells = cells_of(size_px)
    y, x = np.mgrid[0:cells, 0:cells] / cells
    shape = np.maximum(0, 1 - 5 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))
    field = np.stack([np.sin(7 * y) * shape, np.cos(5 * x) * shape], -1) * strength_px
    return np.asarray(field, np.float32)


def check(got: U8, expected: U8, side_px: int) -> None:
    """A grey level at most; more where the region's edge cuts a grown square and the frame goes on."""
    edge = -(-3 * len(got) // side_px) if side_px <= len(got) else 0
    inner = slice(edge, len(got) - edge)
    most, mean = difference(got[inner, inner], expected[inner, inner])
    assert most <= 1
    assert mean < 0.1
    most, mean = difference(got, expected)
    assert most <= 16
    assert mean < 0.1


def crop_of(image: I420, square: Square, colour: Colour, size_px: int = SIZE) -> tuple[U8, U8]:
    """The kernel's and the CPU's."""
    host = HostFrame(size_px)
    host.set_region(image, square, colour)
    host.launch("copy_in", "read_crop")
    expected = read_square(image, square, colour, size_px)
    assert expected is not None
    return np.asarray(host.arrays["crop"], np.uint8), expected


@pytest.mark.parametrize("square", [Square(140, 60, 130), Square(-40, 250, 300), Square(320, 300, 226)])
def test_the_region_comes_in_whole_and_little_else(square: Square) -> None:
    image, host = frame(), HostFrame(SIZE)
    host.set_region(image, square, BT709)
    host.launch("copy_in")
    for got, plane in zip(host.region("r"), planes_of(image, part_of(image, square)), strict=True):
        np.testing.assert_array_equal(got, plane)
    width, height = int(host.views.params["part_w"]), int(host.views.params["part_h"])
    assert (host.arrays["ry"][height:] == GARBAGE).all()
    assert (host.arrays["ry"][:, -(-width // 16) * 16 :] == GARBAGE).all()


@pytest.mark.parametrize("side_px", SIDES)
@pytest.mark.parametrize("place", PLACES)
def test_a_crop_is_read_as_on_the_cpu(place: str, side_px: int) -> None:
    check(*crop_of(frame(), Square(*PLACES[place], side_px), BT709), side_px)


@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize("side_px", [60, 210])
def test_every_colour_is_read_as_on_the_cpu(colour: Colour, side_px: int) -> None:
    check(*crop_of(frame(colour), Square(140, 60, side_px), colour), side_px)


@pytest.mark.parametrize("square", [Square(-10, -10, 420), Square(-600, -600, 1536), Square(-6, -4, 80)])
def test_a_small_frame_of_odd_size_is_continued_on_all_sides(square: Square) -> None:
    image = frame(width=71, height=65)
    most, mean = difference(*crop_of(image, square, BT709))
    assert most <= 2
    assert mean < 0.1


@pytest.mark.parametrize("side_px", [70, SIZE, 142, 350])
def test_noise_is_read_as_on_the_cpu(side_px: int) -> None:
    """Nothing is smooth there: a wrong neighbour anywhere shows."""
    image = noise(side_px - 15, side_px - 9)
    most, mean = difference(*crop_of(image, Square(-4, -2, side_px), BT709))
    assert most <= 1
    assert mean < 0.1


@pytest.mark.parametrize("strength_px", [0.4, 5.0, 60.0])
def test_a_crop_is_bent_as_on_the_cpu(strength_px: float) -> None:
    picture, field = np.ascontiguousarray(astronaut()[60:156, 180:276]), wave(SIZE, strength_px)
    host = HostFrame(SIZE)
    host.set_bend(field, 1.0)
    host.arrays["crop"] = picture
    host.launch("bend_crop")
    most, mean = difference(host.arrays["bent"], bend(picture, widened(field, SIZE)))
    assert most <= 1
    assert mean < 0.02
    assert (host.arrays["bent"] != picture).any()


def test_what_shall_not_bend_is_copied() -> None:
    picture = np.ascontiguousarray(astronaut()[60:156, 180:276])
    host = HostFrame(SIZE)
    host.set_bend(wave(), 1.0)
    host.views.params["bends"] = 0
    host.arrays["crop"] = picture
    host.launch("bend_crop")
    np.testing.assert_array_equal(host.arrays["bent"], picture)


@pytest.mark.parametrize("side_px", [60, 210])
def test_the_order_of_threads_and_the_launch_are_nothing_to_the_bytes(side_px: int) -> None:
    results = []
    for backwards, shape in ((False, None), (True, None), (False, (1, 1)), (True, (3, 7))):
        host = HostFrame(SIZE)
        host.set_region(frame(), Square(-10, 20, side_px), BT709)
        host.set_bend(wave(), 1.0)
        host.launch("copy_in", "read_crop", "bend_crop", backwards=backwards, shape=shape)
        results.append(host.arrays["bent"])
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_the_shipped_size_is_read_as_on_the_cpu() -> None:
    for side_px in (180, 224, 380):
        check(*crop_of(frame(), Square(80, 20, side_px), BT709, 224), side_px)
