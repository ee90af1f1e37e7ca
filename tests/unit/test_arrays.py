from typing import Any

import numpy as np
import pytest

from engine.arrays import check_array


@pytest.mark.parametrize(
    ("have", "want"), [((2, 3), (2, 3)), ((2, 3), (None, 3)), ((0,), (None,)), ((0,), (0,)), ((), ())]
)
def test_what_fits_passes_and_is_not_touched(have: tuple[int, ...], want: tuple[int | None, ...]) -> None:
    array = np.ones(have, np.float32)
    check_array("x", array, want, np.float32)
    assert array.shape == have


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 3), np.float64), "x must be an array of float32, got float64"),
        (np.zeros((2, 3), ">f4"), "x must be an array of float32, got >f4"),
        ([[0.0] * 3] * 2, "x must be an array of float32, got list"),
        (None, "x must be an array of float32, got NoneType"),
    ],
)
def test_another_dtype_is_a_type_error(array: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        check_array("x", array, (2, 3), np.float32)


@pytest.mark.parametrize("shape", [(2,), (2, 4), (2, 3, 1), ()])
def test_another_shape_is_a_value_error_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"x must have shape \[any, 3\], got \[") as caught:
        check_array("x", np.zeros(shape, np.float32), (None, 3), np.float32)
    assert str(list(shape)) in str(caught.value)


def test_a_length_that_is_asked_for_is_checked() -> None:
    with pytest.raises(ValueError, match=r"x must have shape \[2, 3\], got \[3, 3\]"):
        check_array("x", np.zeros((3, 3), np.float32), (2, 3), np.float32)
