"""What of a frame goes to a device, and what comes back."""

import numpy as np
import pytest

from engine.arrays import U8
from engine.image.resize import Square
from engine.image.yuv import I420
from engine.painting.region import Region

LONGEST = 64
PLANES = ("y", "u", "v")


def picture(width: int, height: int) -> I420:
    """Smooth, so that it survives being shrunk."""
    image = I420.blank(width, height)
    for plane, slope in ((image.y, 0.5), (image.u, 0.3), (image.v, 0.4)):
        rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
        plane[:] = 40 + slope * (rows + columns)
    return image


def memory() -> tuple[U8, U8, U8]:
    luma, chroma = (LONGEST, LONGEST), (LONGEST // 2, LONGEST // 2)
    return np.zeros(luma, np.uint8), np.zeros(chroma, np.uint8), np.zeros(chroma, np.uint8)


def sent(region: Region, image: I420) -> tuple[U8, U8, U8]:
    planes = memory()
    region.take(image, planes)
    return planes


@pytest.mark.parametrize(
    ("square", "part"),
    [
        (Square(10, 20, 40), (0, 0, 40, 40)),
        (Square(-8, 20, 40), (8, 0, 32, 40)),
        (Square(80, -6, 40), (0, 6, 21, 34)),
        (Square(70, 60, 40), (0, 0, 31, 21)),
    ],
)
def test_the_part_in_the_frame_goes_there_and_back(square: Square, part: tuple[int, int, int, int]) -> None:
    image = picture(101, 81)
    before, region = image.copy(), Region.of(image, square, LONGEST)
    assert region is not None
    assert (region.x, region.y, region.width, region.height) == part
    assert (region.side, region.is_shrunk) == (40, False)
    planes = sent(region, image)
    height, width = part[3], part[2]
    x, y = max(square.x, 0), max(square.y, 0)
    np.testing.assert_array_equal(planes[0][:height, :width], image.y[y : y + height, x : x + width])
    assert planes[1][(height + 1) // 2 - 1, (width + 1) // 2 - 1] > 0
    region.put_back(planes, tuple(plane + 1 for plane in planes))  # type: ignore[arg-type]
    changed = image.y != before.y
    assert changed.sum() == height * width
    assert changed[y : y + height, x : x + width].all()
    assert (image.u != before.u).sum() == ((height + 1) // 2) * ((width + 1) // 2)


def test_a_square_outside_the_frame_has_no_region() -> None:
    assert Region.of(picture(100, 80), Square(200, 0, 40), LONGEST) is None


@pytest.mark.parametrize("square", [Square(20, 10, 130), Square(-40, -30, 150)])
def test_a_large_square_goes_shrunk_and_comes_back_where_it_was_painted(square: Square) -> None:
    image = picture(200, 160)
    before, region = image.copy(), Region.of(image, square, LONGEST)
    assert region is not None
    assert region.is_shrunk
    assert region.side <= LONGEST
    assert region.side % 2 == 0
    planes = sent(region, image)
    untouched = tuple(plane.copy() for plane in planes)
    region.put_back(planes, untouched)  # type: ignore[arg-type]
    for name in PLANES:
        np.testing.assert_array_equal(getattr(image, name), getattr(before, name))
    painted = tuple(plane.copy() for plane in planes)
    middle = region.side // 2
    painted[0][middle - 8 : middle + 8, middle - 8 : middle + 8] = 250
    region.put_back(planes, painted)  # type: ignore[arg-type]
    at = square.y + square.side_px // 2, square.x + square.side_px // 2
    assert image.y[at] == 250
    assert image.y[0, 0] == before.y[0, 0]
    assert (image.y != before.y).mean() < 0.2
    np.testing.assert_array_equal(image.u, before.u)
