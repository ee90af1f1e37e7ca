import numpy as np
import pytest

from engine.composite.mark import stamp
from engine.image.yuv import I420
from tests.support.media import pattern, planes, same_picture


def stamped(image: I420) -> I420:
    copy = image.copy()
    stamp(copy)
    return copy


def grey(width: int, height: int, luma: int) -> I420:
    image = I420.blank(width, height)
    image.y[:] = luma
    return image


@pytest.mark.parametrize(("width", "height"), [(640, 360), (1280, 720), (720, 1280), (1281, 721)])
def test_it_lies_in_the_upper_left_corner_and_nowhere_else(width: int, height: int) -> None:
    before = pattern(width, height, 3)
    changed = [np.nonzero(a != b) for a, b in zip(planes(before), planes(stamped(before)), strict=True)]
    side = min(width, height)
    for (rows, columns), scale in zip(changed, (1, 2, 2), strict=True):
        assert 0.02 * side < scale * rows.min() < scale * rows.max() < 0.1 * side
        assert 0.02 * side < scale * columns.min() < scale * columns.max() < 0.3 * side


@pytest.mark.parametrize("luma", [16, 126, 235])
@pytest.mark.parametrize(("width", "height"), [(640, 360), (1280, 720)])
def test_its_letters_stand_out_on_any_ground(width: int, height: int, luma: int) -> None:
    changed = stamped(grey(width, height, luma))
    label = changed.y[: height // 10, : width // 6]
    assert label.max() > 225
    assert label.min() <= 16 + 0.4 * (luma - 16) + 1
    assert (changed.u == 128).all()
    assert (changed.v == 128).all()


def test_its_letters_and_its_box_do_not_leave_the_range() -> None:
    for luma in (0, 255):
        label = stamped(grey(320, 240, luma)).y
        assert (label <= max(luma, 235)).all()
        assert (label >= min(luma, 16)).all()


def test_it_is_the_same_in_every_frame() -> None:
    one, two = pattern(640, 360, 0), pattern(640, 360, 0)
    two.y[200:] = 7
    assert np.array_equal(stamped(one).y[:100], stamped(two).y[:100])


def test_a_picture_too_small_for_it_stays_as_it_is() -> None:
    for width, height in ((1, 1), (32, 32), (640, 16)):
        image = pattern(width, height, 1)
        assert same_picture(stamped(image), image)
