import numpy as np
import pytest

from engine.errors import InputError
from engine.image.yuv import I420, Colour
from streaming.session.pictures import MOST_BYTES, Pictures

COLOUR = Colour("bt709", full_range=False)


def _grey(width: int, height: int, level: int) -> I420:
    image = I420.blank(width, height)
    image.y[:] = level
    return image


def test_a_slot_is_free_when_its_last_holder_lets_go() -> None:
    pictures = Pictures(64, 48, 2)
    one, two = (pictures.take(_grey(64, 48, level), COLOUR) for level in (10, 20))
    assert one is not None
    assert two is not None
    assert pictures.take(_grey(64, 48, 30), COLOUR) is None
    pictures.hold(one)
    pictures.let_go(one)
    assert pictures.take(_grey(64, 48, 30), COLOUR) is None
    assert pictures.picture(one, dubbed=False).y[0, 0] == 10
    pictures.let_go(one)
    assert pictures.take(_grey(64, 48, 30), COLOUR) is not None


def test_pictures_of_a_former_size_drain() -> None:
    pictures = Pictures(64, 48, 2)
    old = pictures.take(_grey(64, 48, 10), COLOUR)
    assert old is not None
    before = pictures.ring
    pictures.resize(32, 32)
    new = pictures.take(_grey(32, 32, 20), COLOUR)
    assert new is not None
    assert pictures.size == (32, 32)
    assert pictures.picture(old, dubbed=False).y.shape == (48, 64)
    assert pictures.slot(new) == 0
    with pytest.raises(ValueError, match="former size"):
        pictures.slot(old)
    assert before.fd >= 0
    pictures.let_go(old)
    assert before.fd < 0
    assert np.all(pictures.picture(new, dubbed=False).y == 20)


def test_more_memory_than_a_session_may_have_is_refused_and_changes_nothing() -> None:
    pictures = Pictures(64, 48, 300)
    with pytest.raises(InputError, match="smaller picture"):
        pictures.resize(7680, 4320)
    assert pictures.size == (64, 48)
    assert MOST_BYTES > 0
